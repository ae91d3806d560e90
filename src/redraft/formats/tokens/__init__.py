"""Texts as token ids, as a model reads and writes them."""
