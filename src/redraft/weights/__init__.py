"""Tensors on disk, of any size in little memory: deltas, conversion, GGUF, adapters.

- `checkpoint` reads (headers in `header`), `output` writes aside and renames; `stream` keeps the disk busy
- `delta`, with `vocabulary`, `plausible`, `identity` and `repair`; `convert`
- `gguf`, `tokenizers` and `lora` are ways between forms; `inspect` says what there is and whether it is sound

Only `redraft.errors` is known here. Torch is needed for the tensors, not to describe them.
"""
