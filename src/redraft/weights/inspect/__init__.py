"""What a model, delta or adapter is, and whether it is sound."""
