"""Make and apply deltas, convert checkpoints, and merge adapters, for models of any size, in little memory.

`checkpoint` reads files, and `output` writes files. `delta` and `convert` make new checkpoints. `gguf`,
`tokenizers` and `lora` convert between formats. `info` describes files, and `verify` looks for faults.

Describing a file needs no torch, unless the file is a pickled `.bin` file.
"""
