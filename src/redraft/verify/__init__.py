"""Checks: code that judges an answer and says in words what is wrong."""
