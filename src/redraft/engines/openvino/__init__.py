"""Run GGUF files with OpenVINO GenAI, with many streams at once on a CPU."""
