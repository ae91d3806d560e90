"""Evaluate answers: judge them, score tasks, measure the effect of revising, and compute the statistics."""
