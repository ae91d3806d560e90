"""Evaluate answers: judge them, score tasks, diagnose what revising changed, and compute the statistics."""
