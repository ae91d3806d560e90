"""Engines generate text: llama.cpp, transformers, an OpenAI-compatible server, or canned replies."""
