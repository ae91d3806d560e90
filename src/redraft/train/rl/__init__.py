"""Train by reinforcement learning: algorithms as pure functions, and the code that calls the functions."""
