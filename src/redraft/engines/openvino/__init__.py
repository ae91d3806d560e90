"""Models of OpenVINO GenAI: GGUF files, many streams at once on a processor."""
