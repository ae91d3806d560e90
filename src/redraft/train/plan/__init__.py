"""Predict what a run takes: memory, pace, hours and money."""
