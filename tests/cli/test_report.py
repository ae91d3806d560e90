"""`redraft report`, as a user types it."""
