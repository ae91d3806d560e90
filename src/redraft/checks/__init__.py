"""Checks: code that judges an answer and describes what is wrong."""
