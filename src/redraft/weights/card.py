"""Converts the licence and base model of a model card (the front matter of README.md) to GGUF keys and back.

The keys are those of llama.cpp's converter (gguf-py, metadata.py). Cards are untrusted: only plain values and
lists of four fields are read, and all other YAML is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from redraft.weights.checkpoint import read_small

CARD = "README.md"
_FIELD = re.compile(r"([a-z_]+):[ \t]*(.*)")
_ITEM = re.compile(r"[ \t]*-[ \t]+(.+)")
_PLAIN = re.compile(r"[\w.:/+ -]{1,200}")
_KEYS = {
    "license": "general.license",
    "license_name": "general.license.name",
    "license_link": "general.license.link",
}
_HUB = "https://huggingface.co/"
_MOST_BASES = 16


def card_metadata(folder: Path) -> dict[str, str | int]:
    """Return the GGUF keys for the licence and base models that a folder's card names."""
    try:
        text = read_small(folder / CARD).decode("utf-8", "replace")
    except FileNotFoundError:
        return {}
    fields = _front_matter(text)
    keys: dict[str, str | int] = {key: fields[name][0] for name, key in _KEYS.items() if fields.get(name)}
    bases = [base for base in fields.get("base_model", []) if base.count("/") == 1][:_MOST_BASES]
    if bases:
        keys["general.base_model.count"] = len(bases)
    for number, base in enumerate(bases):
        organisation, name = base.split("/")
        keys[f"general.base_model.{number}.name"] = _title(name)
        keys[f"general.base_model.{number}.organization"] = _title(organisation)
        keys[f"general.base_model.{number}.repo_url"] = _HUB + base
    return keys


def card_of(metadata: Mapping[str, Any]) -> str | None:
    """Return a card with the licence and base models of a GGUF file, or None if it has neither."""
    lines = [f"{name}: {value}" for name, key in _KEYS.items() if (value := _plain(metadata.get(key)))]
    bases = list(_bases(metadata))
    lines += ["base_model:", *(f"- {base}" for base in bases)] if bases else []
    if not lines:
        return None
    title = _plain(metadata.get("general.name"))
    return "\n".join(["---", *lines, "---", *([f"# {title}"] if title else [])]) + "\n"


def _bases(metadata: Mapping[str, Any]) -> Iterator[str]:
    for number in range(_MOST_BASES):
        url = _plain(metadata.get(f"general.base_model.{number}.repo_url"))
        if url and url.startswith(_HUB):
            yield url.removeprefix(_HUB)


def _plain(value: Any) -> str | None:
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else None


def _front_matter(text: str) -> dict[str, list[str]]:
    """Return the values of each field in the front matter, which ends at the second line of dashes."""
    fields: dict[str, list[str]] = {}
    values: list[str] = []
    lines = text.splitlines()
    for line in lines[1:] if lines[:1] == ["---"] else []:
        if line == "---":
            return fields
        if found := _FIELD.fullmatch(line):
            values = fields.setdefault(found[1], [])
            values += _values(found[2].strip("[] ").split(","))
        elif found := _ITEM.fullmatch(line):
            values += _values([found[1]])
    return {}


def _values(texts: list[str]) -> Iterator[str]:
    for text in texts:
        if _PLAIN.fullmatch(value := text.strip().strip("'\"")):
            yield value


def _title(name: str) -> str:
    """Return a hub name as a title, as llama.cpp does: `llama-7b` becomes `Llama 7b`."""
    words = name.replace("-", " ").split()
    return " ".join(
        word.title() if word.islower() and not re.match(r"v?[0-9]", word) else word for word in words
    )
