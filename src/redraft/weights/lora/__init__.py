"""Read peft's LoRA adapters, merge them into their base, or convert them to GGUF adapters."""
