"""Read and write model cards (the front matter of README.md): licence, base models, data, sources.

The card of a model made from several sources lists the sources and their licences (`redraft_sources`). A GGUF
key stores this list, so that `card_of` can restore the card. The other GGUF keys are as in llama.cpp's
converter (gguf-py, metadata.py). Cards are untrusted: only short plain strings and lists of strings are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from redraft.jobs.licences import OTHER, UNKNOWN, Source, ids_of, remark
from redraft.weights.checkpoint import Checkpoint, read_small

if TYPE_CHECKING:
    from redraft.weights.output import OutputFolder, Run

CARD = "README.md"
_FRONT = 1 << 16  # characters of a card that are read as front matter
_MOST = 200
_PLAIN = re.compile(rf"[\w.:/+ -]{{1,{_MOST}}}")
_KEYS = {
    "license": "general.license",
    "license_name": "general.license.name",
    "license_link": "general.license.link",
}
_HUB = "https://huggingface.co/"
_HUB_NAME = re.compile(r"(?!.*\.(?:jsonl?|csv|parquet|gz)$)\w[\w.-]*/[\w.-]+")  # not a file's path
_MOST_BASES = 16
_SOURCES, _SOURCES_KEY = "redraft_sources", "redraft.sources"
_LONGEST = 80  # characters of a source's name
_LISTED = re.compile(
    r"(apache|mpl|artistic|ecl)-2\.0|mit|isc|zlib|unlicense|wtfpl|ncsa|0bsd|bsd(-[23]-clause(-clear)?)?|cc0-1\.0|cc"
    r"|cc-by(-nc)?(-sa|-nd)?(-[234]\.[05])?|[al]?gpl(-[23]\.[01])?|lgpl-lr|e[pu]pl-[12]\.[012]|afl-3\.0"
    r"|(creativeml-|bigscience-)?openrail(-m|\+\+)?|(bigscience-bloom|bigcode-openrail)-.*|odc-by|odbl|pddl|c-uda"
    r"|cdla-.*|llama[234](\.[123])?|gemma|unknown"
)
"""Matches the licence ids of the Hugging Face Hub (huggingface.co/docs/hub/repositories-licenses)."""
_CACHED = re.compile(r"-[0-9a-f]{16}$")  # suffix of folders that `engines.hf.folders` makes

Part = tuple[Checkpoint, str]  # a checkpoint and its kind: base, adapter or delta


def card_metadata(folder: Path) -> dict[str, Any]:
    """Return GGUF metadata with the licence, base models and sources from a folder's model card."""
    fields = _fields(folder)
    keys: dict[str, Any] = {key: fields[name][0] for name, key in _KEYS.items() if fields.get(name)}
    listed = _listed(fields)
    if len(ids := ids_of(listed)) > 1 and keys.get("general.license") == OTHER:
        keys["general.license.name"] = ", ".join(ids)
    bases = [base for base in fields.get("base_model", []) if base.count("/") == 1][:_MOST_BASES]
    for number, base in enumerate(bases):
        keys["general.base_model.count"] = number + 1
        keys[f"general.base_model.{number}.name"] = base.rpartition("/")[2]
        keys[f"general.base_model.{number}.repo_url"] = f"{_HUB}{base}"
    return keys | ({_SOURCES_KEY: [_line(each) for each in listed]} if listed else {})


def card_of(metadata: Mapping[str, Any]) -> str | None:
    """Return a model card with licence, bases and sources from GGUF metadata; None if all are missing."""
    urls = [_plain(metadata.get(f"general.base_model.{i}.repo_url")) for i in range(_MOST_BASES)]
    bases = [url.removeprefix(_HUB) for url in urls if url and url.startswith(_HUB)]
    title = _plain(metadata.get("general.name"))
    named = metadata.get(_SOURCES_KEY)
    if listed := _listed({_SOURCES: list(named)} if isinstance(named, list | tuple) else {}):
        return card_text(title or "", listed, bases)
    lines = [f"{name}: {value}" for name, key in _KEYS.items() if (value := _plain(metadata.get(key)))]
    lines += ["base_model:", *(f"- {base}" for base in bases)] if bases else []
    if not lines:
        return None
    return "\n".join(["---", *lines, "---", *([f"# {title}"] if title else [])]) + "\n"


def card_text(title: str, sources: Sequence[Source], bases: Iterable[str] = ()) -> str:
    """Return a model card (README.md) that lists sources and base models. `bases` are names like org/name."""
    name, listed = _licence(sources)
    licence = [f"license: {name}"] if listed else [f"license: {OTHER}", f"license_name: {name}"]
    named = (each.name for each in sources if each.kind == "data")
    data = dict.fromkeys(filter(_HUB_NAME.fullmatch, named))
    lists = {"base_model": dict.fromkeys(bases), "datasets": data}
    lists[_SOURCES] = dict.fromkeys(f'"{_line(each)}"' for each in sources)
    more = [line for name, of in lists.items() if of for line in (f"{name}:", *(f"- {each}" for each in of))]
    rows = [f"| {kind} | {name} | {of} |" for kind, name, of in dict.fromkeys(map(_plainly, sources))]
    table = ["Made from these sources:", "", "| | source | licence |", "|---|---|---|", *rows]
    return "\n".join(["---", *licence, *more, "---", f"# {title}", "", *table]) + "\n"


def sources_of(folder: Path, kind: str, name: str = "") -> tuple[Source, ...]:
    """Return the sources that a folder's card lists. Without a valid list, the model is the only source."""
    fields = _fields(folder)
    own, listed = fields.get("license", []), _listed(fields)
    mixed = own == [OTHER] and len(ids_of(listed)) > 1
    if own == [OTHER]:
        own = fields.get("license_name") or own
    if listed and (mixed or own == [_licence(listed)[0]]):
        return listed
    return (Source(kind, name or model_name(folder), " AND ".join(own) or UNKNOWN),)


def is_ours(folder: Path) -> bool:
    """Return whether the card in a folder has the key `redraft_sources`, as only redraft's cards do."""
    return _SOURCES in _fields(folder)


def bases_of(folder: Path) -> list[str]:
    """Return the base models that the card in a folder names."""
    return _fields(folder).get("base_model", [])


def is_known(sources: Iterable[Source]) -> bool:
    """Return whether the licence of at least one source is known."""
    return any(name != UNKNOWN for name in ids_of(sources))


def join_cards(out: OutputFolder, run: Run, first: Part, second: Part) -> None:
    """Report the licences of an output, and write a card that lists the sources of both inputs.

    If no licence is known, nothing is reported or written. No card is written if the card of `first` already
    lists all sources.
    """
    found = [
        sources_of(each.folder, kind) if each.path == each.folder else (Source(kind, each.path.stem),)
        for each, kind in (first, second)
    ]
    named = ids_of(each for each in found[1] if each.kind == "base").keys()
    if first[1] == "base" and not is_ours(first[0].folder) and named == ids_of(found[0]).keys():
        found[0] = ()  # the adapter's card already lists the base
    sources = tuple(dict.fromkeys(source for of in found for source in of))
    if second[1] == "base" and not is_known(found[1]):
        sources = found[0]
    if not is_known(sources):
        return
    if set(sources) != set(found[0]):
        bases = [base for each, _ in (first, second) for base in bases_of(each.folder)]
        text = card_text(out.path.name, sources, bases)
        if first[1] == "delta":  # a delta's card describes the result, except for the licence
            path = first[0].folder / CARD
            card = read_small(path).decode("utf-8", "replace") if path.is_file() else ""
            text += "\n" + (card.split("\n---\n", 1)[-1] if _front_matter(card) else card)
        (out.aside / CARD).write_text(text, "utf-8")
    say_licences(sources, run)


def say_licences(sources: Sequence[Source], run: Run) -> None:
    """Report the licences of an output's sources, if they differ or forbid commercial use."""
    if text := remark(sources):
        run.tell(text)


def model_name(folder: Path) -> str:
    """Return a model's name: org/name for a folder in the hub's cache, otherwise the folder's name."""
    path = folder.resolve()
    owner = path.parent.parent.name
    if path.parent.name == "snapshots" and owner.startswith("models--"):
        return owner.removeprefix("models--").replace("--", "/", 1)
    return _CACHED.sub("", path.name)


def _fields(folder: Path) -> dict[str, list[str]]:
    try:
        return _front_matter(read_small(folder / CARD).decode("utf-8", "replace"))
    except FileNotFoundError:
        return {}


def _listed(fields: Mapping[str, Sequence[str]]) -> tuple[Source, ...]:
    found = []
    for line in fields.get(_SOURCES, ()):
        head, _, licence = (_plain(line) or "").rpartition(": ")
        kind, _, name = head.partition(" ")
        if kind:
            found.append(Source(kind, name, licence))
    return tuple(found)


def _licence(sources: Iterable[Source]) -> tuple[str, bool]:
    ids = list(ids_of(sources))
    return "-and-".join(ids)[:_MOST], len(ids) == 1 and _LISTED.fullmatch(ids[0]) is not None


def _plainly(source: Source) -> Source:
    kind, name, licence = (re.sub(r"[^\w./+-]+", " ", text).strip() for text in source)
    return Source(kind, name[:_LONGEST] or "without a name", " AND ".join(ids_of([source])) or licence)


def _line(source: Source) -> str:
    kind, name, licence = _plainly(source)
    return f"{kind} {name}: {licence}"[:_MOST]


def _plain(value: Any) -> str | None:
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else None


def _front_matter(text: str) -> dict[str, list[str]]:
    lines = text[:_FRONT].splitlines()
    if lines[:1] != ["---"] or "---" not in lines[1:]:
        return {}
    try:
        fields = yaml.load("\n".join(lines[1 : lines.index("---", 1)]), yaml.BaseLoader)  # noqa: S506  (texts)
    except (yaml.YAMLError, RecursionError):
        return {}
    found = fields.items() if isinstance(fields, dict) else ()
    lists = {str(name): value if isinstance(value, list) else [value] for name, value in found}
    return {name: [each for each in values if _plain(each)] for name, values in lists.items()}
