"""The model to train: loading, adapters, attention over packed rows, and the loss."""
