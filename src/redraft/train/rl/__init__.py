"""Train by reinforcement: the algorithm as pure functions, and the code that runs it."""
