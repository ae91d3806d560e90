"""The OpenAI-compatible server: `redraft serve`."""
