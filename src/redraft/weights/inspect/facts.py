"""Extracts facts from configurations, tokenizers, templates and manifests, as labelled lines for `info`.

All input is untrusted: values of the wrong type are left out, and long ones are cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from redraft.counting import counted
from redraft.errors import ModelError
from redraft.files import inside
from redraft.weights.checkpoint import read_json
from redraft.weights.gguf.reader import GGUFHeader, LongArray
from redraft.weights.tokenizers.folder import TokenizerFolder
from redraft.weights.tokenizers.sentencepiece import read_sentencepiece

Fact = tuple[str, str]

_ROLE = re.compile(r"""['"](system|developer|user|human|assistant|gpt|tool|ipython)['"]""")
_TEMPLATE = 64  # characters shown of a template's first line
_LINE = 500  # characters shown of any line


def config_facts(config: Mapping[str, Any]) -> Iterator[Fact]:
    """Yield the facts in config.json."""
    names = config.get("architectures")
    first = names[0] if isinstance(names, list) and names else config.get("model_type")
    if isinstance(first, str):
        yield "architecture", first
    keys = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size")
    yield from _shape(*(_count(config.get(key)) for key in (*keys, "intermediate_size")))
    if length := _count(config.get("max_position_embeddings")):
        yield "context", counted(length, "token")
    if rows := _count(config.get("vocab_size")):
        tied = ", shared with the output" if config.get("tie_word_embeddings") is True else ""
        yield "vocabulary", f"{counted(rows, 'row')}{tied}"
    quantised = config.get("quantization_config")
    if isinstance(quantised, dict):
        yield "quantised", str(quantised.get("quant_method"))
    yield from _revises(config.get("redraft_format"))


def header_facts(header: GGUFHeader) -> Iterator[Fact]:
    """Yield the facts in the metadata of a GGUF file."""
    architecture = header.text("general.architecture") or "?"
    yield "architecture", architecture
    if name := header.text("general.name"):
        yield "name", name
    keys = ("block_count", "attention.head_count", "attention.head_count_kv", "embedding_length")
    yield from _shape(*(header.number(f"{architecture}.{key}") for key in (*keys, "feed_forward_length")))
    if length := header.number(f"{architecture}.context_length"):
        yield "context", counted(length, "token")
    table = header.tensors.get("token_embd.weight")
    if table and len(table.shape) == 2:
        tied = "" if "output.weight" in header.tensors else ", shared with the output"
        yield "vocabulary", f"{table.shape[1]:,} rows{tied}"
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, tuple | LongArray):
        count = tokens.length if isinstance(tokens, LongArray) else len(tokens)
        kinds = [header.text("tokenizer.ggml.model"), header.text("tokenizer.ggml.pre")]
        yield "tokenizer", f"{', '.join(kind for kind in kinds if kind)}: {count:,} tokens"
    yield from template_facts(header.text("tokenizer.chat_template"))
    yield from _revises(header.text("redraft.format"))
    yield from licence_facts(header)


def licence_facts(header: GGUFHeader) -> Iterator[Fact]:
    """Yield the licence in the metadata of a GGUF file, and the sources with theirs."""
    names = [header.text(f"general.license{part}") for part in ("", ".name", ".link")]
    if licence := ", ".join(filter(None, names)):
        yield "licence", licence
    sources = header.metadata.get("redraft.sources")
    for source in sources if isinstance(sources, tuple) else ():
        if isinstance(source, str):
            yield "source", source


def _shape(
    layers: int | None, heads: int | None, keys: int | None, width: int | None, inner: int | None
) -> Iterator[Fact]:
    parts = [counted(layers, "layer")] if layers else []
    if heads:
        parts.append(
            counted(heads, "head") + (f" ({keys:,} for keys and values)" if keys and keys != heads else "")
        )
    if width:
        parts.append(f"{width:,} wide" + (f" ({inner:,} within)" if inner else ""))
    if parts:
        yield "shape", ", ".join(parts)


def _revises(value: Any) -> Iterator[Fact]:
    if isinstance(value, str):
        yield "revises", f"natively: redraft.format is {value}"


def tokenizer_facts(folder: Path) -> Iterator[Fact]:
    """Yield the kind and size of a folder's tokenizer, and its chat template."""
    config = read_json(folder / "tokenizer_config.json")
    class_name = config.get("tokenizer_class")
    called = f" ({class_name})" if isinstance(class_name, str) else ""
    kind = _fast(read_json(folder / "tokenizer.json")) or _sentencepiece(folder / "tokenizer.model")
    if kind or called:
        yield "tokenizer", f"{kind or 'without its vocabulary'}{called}"
    yield from template_facts(TokenizerFolder(folder, 0).template())


def _fast(tokenizer: Mapping[str, Any]) -> str | None:
    """Return the kind of a tokenizer.json, and the number of its tokens and added tokens."""
    model = tokenizer.get("model")
    if not isinstance(model, dict):
        return None
    vocabulary = model.get("vocab")
    count = len(vocabulary) if isinstance(vocabulary, dict | list) else 0
    added = tokenizer.get("added_tokens")
    ids = [each.get("id") for each in added if isinstance(each, dict)] if isinstance(added, list) else []
    more = sum(isinstance(each, int) and each >= count for each in ids)
    level = "byte-level " if "ByteLevel" in json.dumps(tokenizer.get("pre_tokenizer")) else ""
    return f"{level}{model.get('type') or 'BPE'}: {count + more:,} tokens" + (
        f", {more:,} of them added" if more else ""
    )


def _sentencepiece(path: Path) -> str | None:
    if not path.is_file():
        return None
    inside(path)
    try:
        return f"SentencePiece: {len(read_sentencepiece(path).pieces):,} tokens"
    except ModelError:
        return "SentencePiece, of an unsupported kind"


def template_facts(template: str | None) -> Iterator[Fact]:
    """Yield the roles that a template names, and its first line."""
    if template is None:
        yield "template", "none"
        return
    roles = dict.fromkeys(_ROLE.findall(template))
    first = next((line.strip() for line in template.splitlines() if line.strip()), "")
    cut = first if len(first) <= _TEMPLATE else first[: _TEMPLATE - 1] + "…"
    yield "template", f"names {', '.join(roles) or 'no roles'}; {cut}"


def adapter_facts(config: Mapping[str, Any]) -> Iterator[Fact]:
    """Yield the facts in adapter_config.json."""
    yield "base", str(config.get("base_model_name_or_path"))
    variants = {"use_rslora": "rank-stabilised", "use_dora": "DoRA"}
    more = "".join(f", {name}" for key, name in variants.items() if config.get(key))
    yield "rank", f"{config.get('r')}, alpha {config.get('lora_alpha')}{more}"
    for label, key in (("changes", "target_modules"), ("replaces", "modules_to_save")):
        value = config.get(key)
        if value:
            yield label, ", ".join(sorted(map(str, value))) if isinstance(value, list) else str(value)
    yield from _revises(config.get("redraft_format"))


def manifest_facts(manifest: Mapping[str, Any]) -> Iterator[Fact]:
    """Yield the command that made a file, and its inputs."""
    if not manifest:
        return
    yield "made by", f"redraft {manifest.get('redraft')}, {manifest.get('made')}: {manifest.get('command')}"
    inputs = manifest.get("inputs")
    for name, each in inputs.items() if isinstance(inputs, dict) else ():
        if isinstance(each, dict):
            yield "made from", f"{name} {each.get('path')}"


def delta_facts(recipe: str) -> Iterator[Fact]:
    """Yield the facts in the header of a delta that redraft made."""
    try:
        recorded = json.loads(recipe)
    except (ValueError, RecursionError):
        return
    if isinstance(recorded, dict):
        exact = recorded.get("exact") is True
        kind = "exact: restores the target bit for bit" if exact else "plain: a difference of numbers"
        yield "delta", f"{kind}; rows that the base lacks: {recorded.get('vocabulary')}"


def one_line(text: str) -> str:
    """Return a text as one line without control characters, cut if it is too long."""
    text = "".join(char if char.isprintable() else " " for char in text).strip()
    return text if len(text) <= _LINE else text[: _LINE - 1] + "…"


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
