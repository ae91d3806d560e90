"""Measure answers: judged pairs, tasks with checkable truth, what revising did, and the statistics."""
