"""Measure the effect of revising, and compare revising with other ways to spend the same tokens."""
