"""Serve models with an OpenAI-compatible API: `redraft serve`."""
