"""Models of transformers: folders of weights, with or without adapters."""
