"""Checks: code that judges an answer and describes its faults."""
