"""Tokenizers as a Hugging Face folder has them and as a GGUF file has them, both ways."""
