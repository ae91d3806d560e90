"""Reviews of answers: the record, the scores read from its text, and the judge who writes it."""
