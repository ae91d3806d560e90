"""Describes models, deltas and adapters, and verifies them."""
