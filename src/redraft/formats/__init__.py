"""Texts and records on the outside, chains on the inside."""
