"""Render chains as training texts, with the spans that carry loss."""
