"""Describe forms of answers that pass checks, and make engines write answers in these forms."""
