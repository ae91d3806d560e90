"""Read peft's LoRA adapters, merge an adapter into a model, and convert between peft and GGUF adapters."""
