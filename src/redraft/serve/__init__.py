"""Serve models by an OpenAI-compatible API: `redraft serve`."""
