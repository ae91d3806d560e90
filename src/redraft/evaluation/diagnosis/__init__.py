"""Measure how revising changed the answers, and whether it beats other ways to spend the same tokens."""
