"""Describes a checkpoint, adapter, delta or GGUF file from its headers and configuration.

Torch is not needed: for safetensors and GGUF the headers are read, and for `.bin` files only the sizes,
unless pickles are allowed. To check the values, see `verify`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from redraft.errors import UsageError
from redraft.weights.checkpoint import open_checkpoint, read_json
from redraft.weights.gguf.reader import is_gguf, read_header
from redraft.weights.header import DELTA
from redraft.weights.inspect.facts import (
    Fact,
    adapter_facts,
    config_facts,
    delta_facts,
    header_facts,
    licence_facts,
    manifest_facts,
    one_line,
    tokenizer_facts,
)
from redraft.weights.replace import MANIFEST

# Names of ggml's types (ggml.h), as printed by llama.cpp.
_KINDS = dict(enumerate(("F32", "F16", "Q4_0", "Q4_1")))
_KINDS |= dict(enumerate(("Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"), 6))
_KINDS |= dict(enumerate(("IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS"), 16))
_KINDS |= dict(enumerate(("I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16"), 24))
_KINDS |= {34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4"}

_NO_PARAMETERS = ("rotary_emb.inv_freq", "rope_freqs.weight", ".masked_bias", ".attn.bias")
"""Buffers in checkpoints, which are not trained."""


@dataclass(frozen=True)
class Use:
    """The part of a checkpoint in one dtype."""

    dtype: str
    tensors: int
    elements: int
    size: int


@dataclass(frozen=True)
class Description:
    """The description of a file or folder.

    Attributes:
        kind: Such as `model`, `LoRA adapter` or `delta`.
        facts: Labels and texts, in order. The texts are untrusted.
        parameters: The number of trained parameters, tied ones counted once; None if it is unknown.
        dtypes: The parts by dtype, largest first.
        files: Names and bytes.
    """

    path: Path
    kind: str
    facts: tuple[Fact, ...]
    parameters: int | None
    dtypes: tuple[Use, ...]
    files: tuple[tuple[str, int], ...]
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the description as a table of plain text."""
        rows = [("what", self.kind)]
        if self.parameters is not None:
            rows.append(("parameters", f"{self.parameters:,}"))
        rows += self.facts
        numbers = [(f"{use.tensors:,} × {use.dtype}", use.size) for use in self.dtypes]
        rows += _column("numbers", numbers, f"{sum(use.tensors for use in self.dtypes):,} tensors")
        rows += _column("files", self.files, f"{len(self.files):,} files")
        rows += [("note", note) for note in self.notes]
        width = max(len(label) for label, _ in rows)
        return [one_line(str(self.path)), *(f"  {label:{width}}  {one_line(text)}" for label, text in rows)]

    def json(self) -> dict[str, Any]:
        """Return the description as a JSON object. Facts with the same label become lines of one text."""
        facts: dict[str, str] = {}
        for label, text in self.facts:
            facts[label] = f"{facts[label]}\n{one_line(text)}" if label in facts else one_line(text)
        return {
            "path": one_line(str(self.path)),
            "kind": one_line(self.kind),
            "parameters": self.parameters,
            "facts": facts,
            "dtypes": [asdict(use) for use in self.dtypes],
            "files": [{"name": one_line(name), "size": size} for name, size in self.files],
            "notes": [one_line(note) for note in self.notes],
        }


def describe(path: Path, *, allow_pickle: bool = False) -> Description:
    """Describe a folder of a model or an adapter, a file of weights, or a GGUF file.

    Without `allow_pickle`, only the sizes of `.bin` files are given.
    """
    if is_gguf(path):
        return _describe_gguf(path)
    folder, whole = (path, True) if path.is_dir() else (path.parent, False)
    try:
        checkpoint = open_checkpoint(path, allow_pickle=allow_pickle)
    except UsageError:
        checkpoint = None  # pickles that may not be read
    config = read_json(folder / "config.json") if whole else {}
    kind, facts = _folder_facts(folder, config) if whole else ("file of weights", [])
    if checkpoint and (recipe := checkpoint.metadata.get(DELTA)):
        kind = "delta"
        facts += delta_facts(recipe)
    facts += manifest_facts(_manifest(path))
    pickles = sorted(file.name for file in path.glob("*.bin")) if whole else [path.name]
    files = tuple(
        (file, (folder / file).stat().st_size) for file in (checkpoint.files if checkpoint else pickles)
    )
    if checkpoint is None:
        note = "The weights are pickles and were not read: add --allow-pickle to read them."
        return Description(path, kind, tuple(facts), None, (), files, (note,))
    tensors = checkpoint.tensors.values()
    counts = {each.name: each.count for each in tensors}
    parameters = _parameters(counts, tied=config.get("tie_word_embeddings") is True)
    uses = _uses((each.dtype, each.count, each.size) for each in tensors)
    return Description(path, kind, tuple(facts), parameters, uses, files)


def _folder_facts(folder: Path, config: Mapping[str, Any]) -> tuple[str, list[Fact]]:
    adapter = read_json(folder / "adapter_config.json")
    if adapter:
        kind = adapter.get("peft_type")
        return f"{'LoRA' if kind == 'LORA' else kind} adapter of peft", list(adapter_facts(adapter))
    facts = [*config_facts(config), *tokenizer_facts(folder)]
    return "model" if config else "weights without a config.json", facts


def _describe_gguf(path: Path) -> Description:
    header = read_header(path)
    tensors = header.tensors
    kind, facts = "model for llama.cpp (GGUF)", list(header_facts(header))
    if header.text("general.type") == "adapter":
        ranks = sorted(
            {each.shape[-1] for name, each in tensors.items() if name.endswith(".lora_a") and each.shape}
        )
        alpha = header.metadata.get("adapter.lora.alpha")
        kind = f"{header.text('adapter.type')} adapter for llama.cpp (GGUF)"
        facts = [
            ("architecture", header.text("general.architecture") or "?"),
            ("rank", f"{', '.join(map(str, ranks[:8]))}, alpha {alpha}"),
            *licence_facts(header),
        ]
    unknown = [name for name, each in tensors.items() if each.size is None]
    return Description(
        path,
        kind,
        (*facts, *manifest_facts(_manifest(path))),
        _parameters({name: prod(each.shape) for name, each in tensors.items()}),
        _uses(
            (_KINDS.get(each.kind, f"type {each.kind}"), prod(each.shape), each.size or 0)
            for each in tensors.values()
        ),
        ((path.name, path.stat().st_size),),
        (f"{len(unknown):,} tensors have an unknown type.",) if unknown else (),
    )


def _parameters(counts: Mapping[str, int], *, tied: bool = False) -> int:
    """Count the parameters. A tied output that is stored again is not counted twice."""
    total = sum(count for name, count in counts.items() if not name.endswith(_NO_PARAMETERS))
    table, output = (counts.get(name) for name in ("model.embed_tokens.weight", "lm_head.weight"))
    return total - (output or 0) if tied and table == output else total


def _uses(tensors: Iterable[tuple[str, int, int]]) -> tuple[Use, ...]:
    sums: dict[str, Use] = {}
    for dtype, elements, size in tensors:
        old = sums.get(dtype, Use(dtype, 0, 0, 0))
        sums[dtype] = Use(dtype, old.tensors + 1, old.elements + elements, old.size + size)
    return tuple(sorted(sums.values(), key=lambda use: -use.size))


def _manifest(path: Path) -> dict[str, Any]:
    return read_json(path / MANIFEST if path.is_dir() else path.with_name(f"{path.name}.{MANIFEST}"))


def _column(label: str, rows: Sequence[tuple[str, int]], total: str) -> list[Fact]:
    """Return rows of names and sizes, with their sum under the name `total`."""
    if len(rows) > 1:
        rows = [*rows, (total, sum(size for _, size in rows))]
    width = max((len(name) for name, _ in rows), default=0)
    lines = [f"{name:{width}}  {size / 1e6:>12,.2f} MB" for name, size in rows]
    return [(label if i == 0 else "", line) for i, line in enumerate(lines)]
