"""Read the header of a GGUF file: the metadata, and the names, shapes and offsets of tensors.

Files are untrusted, and llama.cpp's reader has crashed on crafted files. So every count, length and offset is
checked against the file's size before use, and faults raise a `ModelError`. The file is mapped, so a header
that claims a billion strings takes no memory. Long arrays, such as a vocabulary, are skipped by default.

Format: the GGUF specification, versions 2 and 3, little endian (ggml, docs/gguf.md).
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, prod
from pathlib import Path
from typing import Any, NoReturn

from redraft.errors import ModelError
from redraft.weights.header import AGAIN, by, refuse_pointer, size_of_file

MAX_STRING = 1 << 24
MAX_ARRAY_KEPT = 256
MAX_ENTRIES = 1 << 18  # maximum keys, and maximum tensors: three times those of the largest models

MAX_ELEMENTS, MAX_TEXT = 1 << 22, 1 << 28
"""The most array elements, and the most bytes of text, in a header. Gemma 3 has 1.3 million elements."""

MAX_DIMENSIONS = 4
DEFAULT_ALIGNMENT = 32

_STRING, _ARRAY = 8, 9
# The layouts of the value types in `struct`, by number.
_SCALARS = {kind: f"<{code}" for kind, code in enumerate("BbHhIif?")} | {10: "<Q", 11: "<q", 12: "<d"}
# Bytes of a block by elements of a block and ggml type (ggml.h). The size of other types is unknown.
_BLOCK_BYTES = {
    1: {0: 4, 1: 2, 24: 1, 25: 2, 26: 4, 27: 8, 28: 8, 30: 2},
    32: {2: 18, 3: 20, 6: 22, 7: 24, 8: 34, 9: 36, 20: 18, 39: 17},
    256: dict(zip(range(10, 20), (84, 110, 144, 176, 210, 292, 66, 74, 98, 50), strict=True)),
}
_BLOCK_BYTES[256] |= {21: 110, 22: 82, 23: 136, 29: 56, 34: 54, 35: 66}
# Names of ggml's types (ggml.h), as printed by llama.cpp.
KINDS = dict(enumerate(("F32", "F16", "Q4_0", "Q4_1")))
KINDS |= dict(enumerate(("Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"), 6))
KINDS |= dict(enumerate(("IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS"), 16))
KINDS |= dict(enumerate(("I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16"), 24))
KINDS |= {34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4"}

_MAGIC = b"GGUF"
_BLOCKS = {kind: (n, size) for n, sizes in _BLOCK_BYTES.items() for kind, size in sizes.items()}


@dataclass(frozen=True)
class LongArray:
    """Stands for a long array that was not read, such as a vocabulary."""

    length: int


Value = int | float | bool | str | tuple[int | float | bool | str, ...] | LongArray


@dataclass(frozen=True)
class Tensor:
    """A tensor's entry in the header."""

    name: str
    shape: tuple[int, ...]  # in GGUF's order: the fastest-moving dimension first
    kind: int  # the ggml type number
    offset: int  # bytes from the start of the tensor data
    size: int | None  # bytes, or None if the type is unknown


@dataclass(frozen=True)
class GGUFHeader:
    """The header of a GGUF file."""

    metadata: Mapping[str, Value]  # keys and values. Skipped arrays are `LongArray`.
    tensors: Mapping[str, Tensor]
    start: int = 0  # the offset of the tensor data in bytes
    infos: int = 0  # the offset of the tensors' entries

    @property
    def parameters(self) -> int:
        """The number of weights in all tensors."""
        return sum(prod(tensor.shape) for tensor in self.tensors.values())

    def text(self, key: str) -> str | None:
        """Return the value of a key if it is a string, otherwise None."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        """Return the value of a key if it is an integer, otherwise None."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def format(self) -> str:
        """The ggml type of most weights, such as Q4_1, or "" without tensors."""
        numbers: Counter[int] = Counter()
        for tensor in self.tensors.values():
            numbers[tensor.kind] += prod(tensor.shape)
        return "".join(KINDS.get(kind, f"type {kind}") for kind, _ in numbers.most_common(1))


def read_header(path: Path, *, whole: bool = False) -> GGUFHeader:
    """Read and check the header of a GGUF file. With `whole`, long arrays are read, not skipped."""
    try:
        if path.is_dir():
            raise ModelError(f"{path} is a folder, not a GGUF file.", hint="Name the .gguf file in it.")
        size_of_file(path)  # opening a pipe would wait forever
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(path, data, whole=whole).header()
    except FileNotFoundError:
        raise ModelError(f"there is no model file {path}.", hint="Check the path.") from None
    except OSError as error:
        raise ModelError(f"the model file {path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise ModelError(f"the model file {path} is empty.", hint=AGAIN) from None


def is_gguf(path: Path) -> bool:
    """Return whether a file's suffix or first bytes say that the file is GGUF."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return path.suffix.lower() == ".gguf" or file.read(4) == _MAGIC


def describe_file(path: Path) -> dict[str, Any]:
    """Return the manifest's entry for a GGUF input: path, bytes, and time of modification."""
    info = path.stat()
    return {"path": str(path), "bytes": info.st_size, "modified": info.st_mtime_ns}


def check_model(path: Path, header: GGUFHeader) -> None:
    """Raise `ModelError` unless a GGUF file contains a model, not an adapter."""
    if header.text("general.type") == "adapter":
        raise ModelError(f"{path} is an adapter, not a model.", hint=f"Name its model too: MODEL.gguf+{path}")
    if not header.tensors or header.text("general.architecture") is None:
        missing = "general.architecture" if header.tensors else "tensors"
        raise ModelError(f"{path} contains no model: it has no {missing}.", hint=AGAIN)


def check_adapter(path: Path, header: GGUFHeader, model: Path, base: GGUFHeader) -> None:
    """Raise unless a LoRA adapter and a model have the same architecture and matching shapes."""
    kind, found = header.text("adapter.type"), header.text("general.type")
    if kind != "lora":
        raise ModelError(
            f"{path} is not a LoRA adapter: its general.type is {found!r} and its adapter.type {kind!r}.",
            hint="Convert a PEFT adapter: redraft weights lora-gguf ADAPTER -o FILE.gguf",
        )
    theirs, ours = header.text("general.architecture"), base.text("general.architecture")
    if theirs != ours:
        raise _other_model(path, model, f"it is for {theirs!r}, but the model is {ours!r}")
    for fault in adapter_faults(header):
        raise ModelError(f"{path} is damaged: {fault}.", hint=AGAIN)
    for a in header.tensors.values():
        if not a.name.endswith(".lora_a"):
            continue
        name = a.name.removesuffix(".lora_a")
        b, target = header.tensors[name + ".lora_b"], base.tensors.get(name)  # (in, rank) and (rank, out)
        if target is None:
            raise _other_model(path, model, f"the model has no {name!r:.80}")
        if len(target.shape) < 2:
            raise _other_model(path, model, f"{name!r:.80} is not a matrix in the model")
        # The A of an embedding is stored transposed.
        changes = (b.shape[1], a.shape[1]) if name.startswith("token_embd") else (a.shape[0], b.shape[1])
        if changes != target.shape[:2]:
            sizes = f"{by(changes)} in the adapter and {by(target.shape[:2])} in the model"
            raise _other_model(path, model, f"{name!r:.80} is {sizes}")


def adapter_header(path: Path) -> GGUFHeader:
    """Return the header of a LoRA adapter with all metadata. Raise `ModelError` for any other file."""
    header = read_header(path, whole=True)
    if not any(name.endswith(".lora_a") for name in header.tensors):
        hint = "Give a GGUF adapter. To make one: redraft weights lora-gguf ADAPTER -o FILE.gguf"
        raise ModelError(f"{path} is not a LoRA adapter: it changes no layer.", hint=hint)
    for fault in adapter_faults(header):
        raise ModelError(f"{path} is damaged: {fault}.", hint=AGAIN)
    return header


def adapter_faults(header: GGUFHeader) -> Iterator[str]:
    """Yield descriptions of a LoRA adapter's faults: a wrong alpha, A without B, or ranks that differ."""
    alpha = header.metadata.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, int | float) or not isfinite(alpha):
        yield f"adapter.lora.alpha is {alpha!r:.40}, which is not a number"
    for name, tensor in header.tensors.items():
        half = name[-7:]
        if half not in (".lora_a", ".lora_b"):
            continue
        other = ".lora_b" if half == ".lora_a" else ".lora_a"
        if (partner := header.tensors.get(name[:-7] + other)) is None:
            yield f"it has {name!r:.80} without its {other}"
        elif len(tensor.shape) != 2:
            yield f"{name!r:.80} is not a matrix"
        elif half == ".lora_a" and len(partner.shape) == 2:
            # The A of an embedding is stored with a row for each token.
            ranks = tensor.shape[0 if name.startswith("token_embd") else 1], partner.shape[0]
            if ranks[0] != ranks[1]:
                yield f"A and B of {name[:-7]!r:.80} have rank {ranks[0]} and rank {ranks[1]}"


def _other_model(path: Path, model: Path, why: str) -> ModelError:
    hint = "Name the model that the adapter was trained on: MODEL.gguf+ADAPTER.gguf"
    return ModelError(f"the adapter {path} does not fit the model {model}: {why}.", hint=hint)


class _Reader:
    def __init__(self, path: Path, data: mmap.mmap, *, whole: bool) -> None:
        self.path, self.data, self.whole = path, data, whole
        self.size = len(data)
        self.at = 0
        self.elements, self.text = MAX_ELEMENTS, MAX_TEXT

    def header(self) -> GGUFHeader:
        magic = self.data[:4]
        refuse_pointer(self.path, self.data[:64])
        if magic != _MAGIC:
            message = f"{self.path} is not a GGUF file: it begins with {magic!r}, not b'GGUF'."
            raise ModelError(message, hint="For a folder of safetensors, give the path of the folder.")
        self.at = 4
        if (version := self._scalar("<I")) not in {2, 3}:
            what = f"has GGUF version {version}"
            raise ModelError(f"{self.path} {what}; only versions 2 and 3, little endian, are supported.")
        tensor_count, value_count = self._scalar("<Q"), self._scalar("<Q")
        self._room_for(value_count, 13, "metadata entries")
        self._room_for(tensor_count, 24, "tensors")
        if max(tensor_count, value_count) > MAX_ENTRIES:
            self._odd(f"it has {tensor_count} tensors and {value_count} keys, which is too many")
        metadata: dict[str, Value] = {}
        for _ in range(value_count):
            key = self._string()
            if key in metadata:
                self._odd(f"the key {key!r:.80} appears twice")
            kind = self._scalar("<I")
            metadata[key] = self._array() if kind == _ARRAY else self._simple(kind)
        infos = self.at
        entries = [self._tensor() for _ in range(tensor_count)]
        tensors = {tensor.name: tensor for tensor in entries}
        if len(tensors) < len(entries):
            self._odd("two tensors have the same name")
        start = self._check_extents(entries, metadata.get("general.alignment", DEFAULT_ALIGNMENT))
        return GGUFHeader(metadata, tensors, start, infos)

    def _simple(self, kind: int) -> int | float | bool | str:
        if kind == _STRING:
            return self._string()
        if kind not in _SCALARS:
            self._odd(f"a value has the unknown type {kind}")
        return self._scalar(_SCALARS[kind])

    def _array(self) -> Value:
        kind, length = self._scalar("<I"), self._scalar("<Q")
        width = 8 if kind == _STRING else struct.calcsize(_SCALARS.get(kind, "<B"))
        self._room_for(length, width, "array elements")
        if self.whole or length <= MAX_ARRAY_KEPT:
            self.elements -= length
            if self.elements < 0:
                self._odd(f"its arrays have more than {MAX_ELEMENTS} elements")
        if length <= MAX_ARRAY_KEPT:
            return tuple(self._simple(kind) for _ in range(length))
        begin = self.at
        if kind == _STRING:
            self._skip_strings(length)
        elif kind in _SCALARS:
            self.at += length * width
        else:
            self._odd(f"an array has the unknown type {kind}")
        # The array is now known to lie within the file.
        if not self.whole:
            return LongArray(length)
        if kind != _STRING:
            return struct.unpack_from(f"<{length}{_SCALARS[kind][1]}", self.data, begin)
        self.at = begin
        return tuple(self._string() for _ in range(length))

    def _skip_strings(self, count: int) -> None:
        at, size, read = self.at, self.size, struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at + 8 > size:
                self._cut_off()
            at += 8 + read(self.data, at)[0]
        self.at = at
        self._room_for(0, 0, "")

    def _tensor(self) -> Tensor:
        name = self._string()
        dimensions = self._scalar("<I")
        if dimensions > MAX_DIMENSIONS:
            self._odd(f"the tensor {name!r:.80} has {dimensions} dimensions")
        shape = tuple(int(self._scalar("<Q")) for _ in range(dimensions))
        kind, offset = self._scalar("<I"), self._scalar("<Q")
        if kind not in _BLOCKS:
            return Tensor(name, shape, kind, offset, None)
        elements, size = _BLOCKS[kind]
        if shape and shape[0] % elements:
            self._odd(f"the tensor {name!r:.80} has rows of {shape[0]}, not a multiple of {elements}")
        return Tensor(name, shape, kind, offset, prod(shape) // elements * size)

    def _check_extents(self, tensors: list[Tensor], alignment: Value) -> int:
        if not isinstance(alignment, int) or alignment <= 0 or alignment % 8:
            self._odd(f"general.alignment is {alignment!r:.80}, not a positive multiple of 8")
        start = -(-self.at // alignment) * alignment
        for tensor in tensors:
            if tensor.offset % alignment:
                self._odd(f"the tensor {tensor.name!r:.80} is not aligned to {alignment} bytes")
        end = max((start + t.offset + (t.size or 0) for t in tensors), default=0)
        if end > self.size:
            ends = f"its tensors end at byte {end}, but the file has {self.size}"
            raise ModelError(f"{self.path} is truncated: {ends}.", hint=AGAIN)
        placed = sorted((each for each in tensors if each.size), key=lambda each: each.offset)
        for first, second in pairwise(placed):
            if first.offset + (first.size or 0) > second.offset:
                self._odd(f"the tensors {first.name!r:.80} and {second.name!r:.80} overlap")
        return start

    def _scalar(self, layout: str) -> int:
        try:
            value: int = struct.unpack_from(layout, self.data, self.at)[0]
        except struct.error:
            self._cut_off()
        self.at += struct.calcsize(layout)
        return value

    def _string(self) -> str:
        length = self._scalar("<Q")
        self._room_for(length, 1, "bytes of text")
        self.text -= length
        if length > MAX_STRING or self.text < 0:
            self._odd(f"too much text: {length} bytes here, and {MAX_TEXT - self.text} in all so far")
        raw = self.data[self.at : self.at + length]
        self.at += length
        return raw.decode("utf-8", "replace")

    def _room_for(self, count: int, width: int, what: str) -> None:
        if self.at + count * width > self.size:
            self._cut_off(f": {count} {what} at byte {self.at}" if what else "")

    def _cut_off(self, where: str = "") -> NoReturn:
        beyond = f"its header goes beyond the file's {self.size} bytes{where}"
        raise ModelError(f"{self.path} is truncated: {beyond}.", hint=AGAIN)

    def _odd(self, what: str) -> NoReturn:
        raise ModelError(f"{self.path} is not a valid GGUF file: {what} (near byte {self.at}).", hint=AGAIN)
