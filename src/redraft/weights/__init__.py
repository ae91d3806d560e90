"""Deltas, conversion, GGUF and adapters, for checkpoints of any size in little memory.

- `checkpoint` reads (headers in `header`), `output` writes and renames
- `delta`, with `vocabulary`, `plausible` and `repair`; `convert`
- `gguf`, `tokenizers` and `lora` convert between formats; `inspect` describes and verifies

Torch is needed to read tensors, not to describe them.
"""
