"""Tensors on disk. So far: reading what a GGUF file says of itself."""
