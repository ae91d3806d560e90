"""Reward models: a scalar head, trained on pairs of answers of which one is preferred."""
