"""Writes small GGUF files for tests: a header of any kind, a LoRA adapter, a model of a few kilobytes.

The layout is written by hand from the GGUF specification, so that the reader is not tested against itself.
"""

from __future__ import annotations

import random
import string
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from redraft.weights.gguf.reader import read_header

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9

Floats = Sequence[float]
Tensors = Mapping[str, tuple[tuple[int, ...], Floats]]
"""Shape, fastest-moving dimension first, and the values in order."""


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(item: Any) -> bytes:
    kind, raw = _typed(item)
    return struct.pack("<I", kind) + raw


def _typed(item: Any) -> tuple[int, bytes]:
    match item:
        case bool():
            return BOOL, struct.pack("<?", item)
        case int():
            return U32, struct.pack("<I", item)
        case float():
            return F32, struct.pack("<f", item)
        case str():
            return STRING, text(item)
    kind = _typed(item[0])[0]
    if kind == U32:
        return ARRAY, struct.pack(f"<IQ{len(item)}i", I32, len(item), *item)
    return ARRAY, struct.pack("<IQ", kind, len(item)) + b"".join(_typed(each)[1] for each in item)


def gguf(metadata: Mapping[str, Any], tensors: Tensors | None = None, *, version: int = 3) -> bytes:
    tensors = tensors or {}
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    head += b"".join(text(key) + value(item) for key, item in metadata.items())
    data = b""
    for name, (shape, values) in tensors.items():
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", 0, len(data))
        data += _padded(struct.pack(f"<{len(values)}f", *values))
    return _padded(head) + data


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % 32)


def noise(shape: tuple[int, ...], scale: float, seed: int = 1) -> tuple[tuple[int, ...], Floats]:
    drawn = random.Random(seed)
    count = 1
    for length in shape:
        count *= length
    return shape, [drawn.uniform(-scale, scale) for _ in range(count)]


def lora(
    path: Path,
    *,
    architecture: str = "llama",
    tensor: str = "blk.0.attn_q.weight",
    size: tuple[int, int] = (576, 576),
    scale: float = 1.0,
    more: Mapping[str, Any] | None = None,
) -> Path:
    metadata = {
        "general.type": "adapter",
        "general.architecture": architecture,
        "adapter.type": "lora",
        "adapter.lora.alpha": 2.0,
        **(more or {}),
    }
    halves = {
        f"{tensor}.lora_a": noise((size[0], 2), scale, 1),
        f"{tensor}.lora_b": noise((2, size[1]), scale, 2),
    }
    path.write_bytes(gguf(metadata, halves))
    return path


WIDTH, HIDDEN = 32, 64
TINY = {
    "general.architecture": "llama", "general.name": "tiny", "llama.block_count": 1,
    "llama.context_length": 256, "llama.embedding_length": WIDTH, "llama.feed_forward_length": HIDDEN,
    "llama.attention.head_count": 1,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.dimension_count": WIDTH,
}  # fmt: skip
"""What a llama of one layer says of itself."""


def tiny_model(path: Path, more: Mapping[str, Any] | None = None) -> Path:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *string.ascii_lowercase, "▁a", "▁b", "ab"]
    metadata = {
        **TINY,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": [0.0] * 259 + [-float(i) for i in range(len(pieces) - 259)],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * (len(pieces) - 259),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        **(more or {}),
    }
    path.write_bytes(gguf(metadata, tiny_tensors(len(pieces))))
    return path


def tiny_tensors(vocabulary: int) -> Tensors:
    square, up, down = (WIDTH, WIDTH), (WIDTH, HIDDEN), (HIDDEN, WIDTH)
    shapes = {"attn_q": square, "attn_k": square, "attn_v": square, "attn_output": square}
    shapes |= {"ffn_gate": up, "ffn_up": up, "ffn_down": down}
    ones = (WIDTH,), [1.0] * WIDTH
    return {
        "token_embd.weight": noise((WIDTH, vocabulary), 0.5, 3),
        "output.weight": noise((WIDTH, vocabulary), 0.5, 4),
        "output_norm.weight": ones,
        "blk.0.attn_norm.weight": ones,
        "blk.0.ffn_norm.weight": ones,
        **{f"blk.0.{name}.weight": noise(shape, 0.3, 5) for name, shape in shapes.items()},
    }


def with_text(model: Path, key: str, new: str, path: Path) -> Path:
    raw, start = model.read_bytes(), read_header(model).start
    at = raw.index(text(key)) + len(text(key)) + 4
    end = at + 8 + struct.unpack_from("<Q", raw, at)[0]
    # The padding before the tensors stays, and some is added: its length does not matter.
    path.write_bytes(_padded(raw[:at] + text(new) + raw[end:start]) + raw[start:])
    return path
