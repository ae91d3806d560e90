"""Run transformers models: folders, with or without adapters."""
