"""Engines generate text: llama.cpp, OpenVINO, transformers, an OpenAI-compatible server, canned replies."""
