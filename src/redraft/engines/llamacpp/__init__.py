"""llama.cpp models: GGUF files, run in a child process."""
