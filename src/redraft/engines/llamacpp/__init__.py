"""Run GGUF files with llama.cpp in a child process."""
