"""What produces tokens: llama.cpp, an OpenAI-compatible server, or a script of canned replies."""
