"""Training: chains in, weights out. `redraft train` wires it."""
