"""Train by reinforcement: the algorithm as pure functions, and what runs it."""
