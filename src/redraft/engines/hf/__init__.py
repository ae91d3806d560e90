"""Models of transformers: folders, with or without adapters."""
