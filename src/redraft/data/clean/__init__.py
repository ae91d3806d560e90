"""Clean conversations by rules, and split what is too long."""
