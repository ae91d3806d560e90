"""Convert tokenizers between Hugging Face folders and GGUF files."""
