"""Checks: code that judges an answer and describes the answer's faults."""
