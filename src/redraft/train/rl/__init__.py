"""Train by reinforcement learning: the algorithm as pure functions, and the code that runs it."""
