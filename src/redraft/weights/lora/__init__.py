"""LoRA adapters of peft: read, merged into their base, or made into GGUF adapters."""
