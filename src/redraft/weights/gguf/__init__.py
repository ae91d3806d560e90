"""GGUF files: reading untrusted ones, and converting them from and to folders."""
