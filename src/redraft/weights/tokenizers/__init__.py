"""Convert tokenizers of Hugging Face folders for GGUF files, and back."""
