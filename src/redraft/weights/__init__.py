"""Make and apply deltas, convert checkpoints, and merge adapters, for models of any size, in little memory.

`checkpoint` reads files, `output` writes them. `delta` and `convert` make new checkpoints; `gguf`,
`tokenizers` and `lora` convert between formats; `info` describes files, and `verify` looks for faults.

Torch is needed to read tensors, not to describe them.
"""
