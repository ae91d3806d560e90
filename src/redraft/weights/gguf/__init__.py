"""GGUF files: read without trust, made from a folder, and made into one."""
