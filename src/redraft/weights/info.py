"""Describe a checkpoint, adapter, delta or GGUF file from its headers and configuration.

Only reading `.bin` files needs torch. To check the values of tensors, see `verify`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from redraft.errors import UsageError
from redraft.jobs.counting import counted
from redraft.weights.checkpoint import open_checkpoint, read_json
from redraft.weights.gguf.reader import KINDS, GGUFHeader, is_gguf, read_header
from redraft.weights.header import DELTA
from redraft.weights.replace import MANIFEST

Fact = tuple[str, str]

_LINE = 500  # maximum characters of a line

_NO_PARAMETERS = ("rotary_emb.inv_freq", "rope_freqs.weight", ".masked_bias", ".attn.bias")
"""Endings of the names of buffers in checkpoints. Buffers are not parameters."""

_IN_GGUF = {
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
}
"""Maps keys of config.json to GGUF keys without the architecture's prefix (`llama.`)."""


class Use(NamedTuple):
    """The number and size of all tensors that have the same dtype."""

    dtype: str
    tensors: int
    elements: int
    size: int


@dataclass(frozen=True)
class Description:
    """A description of a checkpoint, adapter, delta or GGUF file."""

    path: Path
    kind: str  # such as `model`, `LoRA adapter` or `delta`
    facts: tuple[Fact, ...]  # labels and texts, in order. The texts are untrusted.
    parameters: int | None  # number of trained parameters, tied ones counted once; None if unknown
    dtypes: tuple[Use, ...]  # the tensors by dtype, largest first
    files: tuple[tuple[str, int], ...]  # names and bytes
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the description as the lines of a plain text table."""
        rows = [("what", self.kind)]
        if self.parameters is not None:
            rows.append(("parameters", f"{self.parameters:,}"))
        rows += self.facts
        for use in self.dtypes:
            rows.append(("numbers", f"{use.tensors:,} × {use.dtype}, {use.size / 1e6:,.2f} MB"))
        rows += [("file", f"{name}, {size / 1e6:,.2f} MB") for name, size in self.files]
        rows += [("note", note) for note in self.notes]
        width = max(len(label) for label, _ in rows)
        return [one_line(str(self.path)), *(f"  {label:{width}}  {one_line(text)}" for label, text in rows)]


def describe(path: Path, *, allow_pickle: bool = False) -> Description:
    """Describe a folder of a model or an adapter, a file of weights, or a GGUF file.

    Without `allow_pickle`, only the sizes of `.bin` files are listed.
    """
    if is_gguf(path):
        return _describe_gguf(path)
    folder, whole = (path, True) if path.is_dir() else (path.parent, False)
    try:
        checkpoint = open_checkpoint(path, allow_pickle=allow_pickle)
    except UsageError:
        checkpoint = None  # pickles that may not be read
    config = read_json(folder / "config.json") if whole else {}
    kind, facts = "file of weights", list[Fact]()
    if adapter := read_json(folder / "adapter_config.json") if whole else {}:
        peft = adapter.get("peft_type")
        kind, facts = f"{'LoRA' if peft == 'LORA' else peft} adapter of peft", [*_adapter_facts(adapter)]
    elif whole:
        kind = "model" if config else "weights without a config.json"
        facts = [*_config_facts(config)]
    if checkpoint and (recipe := checkpoint.metadata.get(DELTA)):
        kind = "delta"
        facts += _delta_facts(recipe)
    facts += _manifest_facts(path)
    pickles = sorted(file.name for file in path.glob("*.bin")) if whole else [path.name]
    names = checkpoint.files if checkpoint else pickles
    files = tuple((name, (folder / name).stat().st_size) for name in names)
    if checkpoint is None:
        note = "The weights are pickles and were not read: add --allow-pickle to read them."
        return Description(path, kind, tuple(facts), None, (), files, (note,))
    tensors = checkpoint.tensors.values()
    counts = {each.name: each.count for each in tensors}
    parameters = _parameters(counts, tied=config.get("tie_word_embeddings") is True)
    uses = _uses((each.dtype, each.count, each.size) for each in tensors)
    return Description(path, kind, tuple(facts), parameters, uses, files)


def _describe_gguf(path: Path) -> Description:
    header = read_header(path)
    tensors = header.tensors
    kind, facts = "model for llama.cpp (GGUF)", list(_header_facts(header))
    if header.text("general.type") == "adapter":
        ranks = {each.shape[-1] for name, each in tensors.items() if name.endswith(".lora_a") and each.shape}
        alpha = header.metadata.get("adapter.lora.alpha")
        kind = f"{header.text('adapter.type')} adapter for llama.cpp (GGUF)"
        facts = [
            ("architecture", header.text("general.architecture") or "?"),
            ("rank", f"{', '.join(map(str, sorted(ranks)[:8]))}, alpha {alpha}"),
            *_config_facts({"redraft_format": header.text("redraft.format")}),
            *_licence_facts(header),
        ]
    unknown = [name for name, each in tensors.items() if each.size is None]
    return Description(
        path,
        kind,
        (*facts, *_manifest_facts(path)),
        _parameters({name: prod(each.shape) for name, each in tensors.items()}),
        _uses(
            (KINDS.get(each.kind, f"type {each.kind}"), prod(each.shape), each.size or 0)
            for each in tensors.values()
        ),
        ((path.name, path.stat().st_size),),
        (f"unknown type: {counted(len(unknown), 'tensor')}",) if unknown else (),
    )


def _parameters(counts: Mapping[str, int], *, tied: bool = False) -> int:
    total = sum(count for name, count in counts.items() if not name.endswith(_NO_PARAMETERS))
    table, output = (counts.get(name) for name in ("model.embed_tokens.weight", "lm_head.weight"))
    return total - (output or 0) if tied and table == output else total


def _uses(tensors: Iterable[tuple[str, int, int]]) -> tuple[Use, ...]:
    sums: dict[str, Use] = {}
    for dtype, elements, size in tensors:
        old = sums.get(dtype, Use(dtype, 0, 0, 0))
        sums[dtype] = Use(dtype, old.tensors + 1, old.elements + elements, old.size + size)
    return tuple(sorted(sums.values(), key=lambda use: -use.size))


def _config_facts(config: Mapping[str, Any]) -> Iterator[Fact]:
    def number(key: str) -> int | None:
        value = config.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

    names = config.get("architectures")
    first = names[0] if isinstance(names, list) and names else config.get("model_type")
    if isinstance(first, str):
        yield "architecture", first
    parts = [counted(layers, "layer")] if (layers := number("num_hidden_layers")) else []
    if heads := number("num_attention_heads"):
        keys = number("num_key_value_heads")
        parts.append(counted(heads, "head") + (f" ({keys:,} for keys and values)" if keys != heads else ""))
    if width := number("hidden_size"):
        inner = number("intermediate_size")
        parts.append(f"{width:,} wide" + (f" ({inner:,} in the MLP)" if inner else ""))
    if parts:
        yield "shape", ", ".join(parts)
    if length := number("max_position_embeddings"):
        yield "context", counted(length, "token")
    if rows := number("vocab_size"):
        tied = ", shared with the output" if config.get("tie_word_embeddings") is True else ""
        yield "vocabulary", f"{counted(rows, 'row')}{tied}"
    if isinstance(quantised := config.get("quantization_config"), dict):
        yield "quantised", str(quantised.get("quant_method"))
    if isinstance(form := config.get("redraft_format"), str):
        yield "revises", f"natively: redraft.format is {form}"


def _header_facts(header: GGUFHeader) -> Iterator[Fact]:
    architecture = header.text("general.architecture") or "?"
    table = header.tensors.get("token_embd.weight")
    config: dict[str, Any] = {key: header.number(f"{architecture}.{name}") for key, name in _IN_GGUF.items()}
    yield from _config_facts(
        config
        | {
            "model_type": architecture,
            "num_key_value_heads": config["num_key_value_heads"] or config["num_attention_heads"],
            "vocab_size": table.shape[1] if table and len(table.shape) == 2 else None,
            "tie_word_embeddings": "output.weight" not in header.tensors,
            "redraft_format": header.text("redraft.format"),
        }
    )
    if name := header.text("general.name"):
        yield "name", name
    yield from _licence_facts(header)


def _licence_facts(header: GGUFHeader) -> Iterator[Fact]:
    names = [header.text(f"general.license{part}") for part in ("", ".name", ".link")]
    if licence := ", ".join(filter(None, names)):
        yield "licence", licence
    sources = header.metadata.get("redraft.sources")
    for source in sources if isinstance(sources, tuple) else ():
        if isinstance(source, str):
            yield "source", source


def _adapter_facts(config: Mapping[str, Any]) -> Iterator[Fact]:
    yield "base", str(config.get("base_model_name_or_path"))
    variants = {"use_rslora": "rank-stabilised", "use_dora": "DoRA"}
    more = "".join(f", {name}" for key, name in variants.items() if config.get(key))
    yield "rank", f"{config.get('r')}, alpha {config.get('lora_alpha')}{more}"
    for label, key in (("changes", "target_modules"), ("replaces", "modules_to_save")):
        if value := config.get(key):
            yield label, ", ".join(sorted(map(str, value))) if isinstance(value, list) else str(value)
    yield from _config_facts({"redraft_format": config.get("redraft_format")})


def _manifest_facts(path: Path) -> Iterator[Fact]:
    manifest = read_json(path / MANIFEST if path.is_dir() else path.with_name(f"{path.name}.{MANIFEST}"))
    if not manifest:
        return
    yield "made by", f"redraft {manifest.get('redraft')}, {manifest.get('made')}: {manifest.get('command')}"
    inputs = manifest.get("inputs")
    for name, each in inputs.items() if isinstance(inputs, dict) else ():
        if isinstance(each, dict):
            yield "made from", f"{name} {each.get('path')}"


def _delta_facts(recipe: str) -> Iterator[Fact]:
    try:
        recorded = json.loads(recipe)
    except (ValueError, RecursionError):
        return
    if isinstance(recorded, dict):
        exact = recorded.get("exact") is True
        kind = "exact: restores the target bit for bit" if exact else "plain: differences of values"
        yield "delta", f"{kind}; convention for added tokens: {recorded.get('vocabulary')}"


def one_line(text: str) -> str:
    """Return a text as one line without control characters, shortened if the line is too long."""
    text = "".join(char if char.isprintable() else " " for char in text).strip()
    return text if len(text) <= _LINE else text[: _LINE - 1] + "…"
