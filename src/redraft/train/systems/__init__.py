"""Whole systems by one command: recipes of stages, each the function of a verb, done once and resumed."""
