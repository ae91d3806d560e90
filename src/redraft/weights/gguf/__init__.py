"""Read untrusted GGUF files, and convert models from folders to GGUF files and back."""
