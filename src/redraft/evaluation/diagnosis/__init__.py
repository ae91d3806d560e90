"""Measure the effect of revising on answers, and compare it with other ways to spend the same tokens."""
