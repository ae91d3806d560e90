"""OpenVINO GenAI models: GGUF files, with many streams at once on a CPU."""
