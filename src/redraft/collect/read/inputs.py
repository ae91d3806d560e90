"""Find the files of a path: a file, a folder, a dataset saved on disk, or one of the hub.

Folders are read in the order of names, so a folder always gives the same records. Other files in a folder,
such as licences, are ignored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from redraft import hub
from redraft.chain import Chain
from redraft.collect.read.tables import Row, read_arrow, read_csv, read_parquet
from redraft.errors import RecordError, UsageError
from redraft.formats.read.files import STDIO, decode, name_of, plain_name, read_lines, reading
from redraft.formats.read.records import read_records
from redraft.jobs.provenance import licences_beside
from redraft.licences import UNKNOWN, licence_in

_TABLES = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
}
_ENDINGS = (".json", ".jsonl", ".ndjson", *_TABLES)
_OF_FILES = (*_ENDINGS, ".txt", ".gz", ".zst", ".yaml", ".yml")
"""Endings of files; a path with one is never looked up on the hub."""


class Input(NamedTuple):
    """A file of records.

    Attributes:
        name: Name in the provenance: the file's name, or its path in the given folder.
        stem: Prefix of its records' ids.
        dataset: Default name of the data set: the file's, the folder's, or the hub's.
        licence: The hub's licence.
        revision: Its commit on the hub.
        offline: It comes from the cache because the hub could not be reached.
    """

    path: Path
    name: str
    stem: str
    dataset: str
    licence: str | None = None
    revision: str | None = None
    offline: bool = False

    def rows(self) -> Iterator[Row]:
        """Read its records.

        Raises:
            RecordError: The file cannot be read, or ends too early.
            MissingExtra: Reading it needs a package that is not installed.
        """
        return _TABLES.get(_ending(self.path), read_lines)(self.path)


def inputs_of(path: Path) -> list[Input]:
    """Return the files of a path.

    Raises:
        UsageError: There is no such path or dataset, or a folder has no files of records.
        RecordError: A saved dataset is damaged.
    """
    if str(path) == STDIO:
        return [Input(path, name_of(path), "stdin", "stdin")]
    if not path.exists():
        return _of_the_hub(path)
    if not path.is_dir():
        stem = _stem(Path(path.name))
        return [Input(path, name_of(Path(path.name)), stem, stem)]
    found = _saved(path) or [each for each in _below(path) if _ending(each) in _ENDINGS]
    if not found:
        raise UsageError(
            f"{name_of(path)}: no files of records in this folder.",
            hint=f"Such files end in: {' '.join(_ENDINGS)}, and may be .gz or .zst.",
        )
    root = path.resolve().name
    return [_within(path, each, root) for each in found]


def check_records(path: Path) -> None:
    """Raise for inputs that only `import` can read.

    Raises:
        UsageError: The path is a table, a folder, or a dataset of the hub.
    """
    if str(path) == STDIO:
        return
    kind = "is a folder" if path.is_dir() else "is a table" if _ending(path) in _TABLES else ""
    if not path.exists() and _named_on_hub(path):
        kind = "is not a file here but a dataset of the hub"
    if kind:
        raise UsageError(
            f"{name_of(path)} {kind}: only import can read it.",
            hint=f"redraft data import {name_of(path)} -o {Path(plain_name(path)).stem}.jsonl",
        )


def _of_the_hub(path: Path) -> list[Input]:
    named = _named_on_hub(path)
    if named is None:
        hides = hub.is_dataset_name(str(path)) and path.suffix not in _OF_FILES
        hint = f"redraft does not look on the hub, because a folder {path.parts[0]} exists here."
        raise UsageError(f"{name_of(path)}: no such file or folder.", hint=hint if hides else None)
    name, inside = named
    found = hub.fetch_dataset(
        name, inside, [ending + packed for ending in _ENDINGS for packed in ("", ".gz", ".zst")]
    )
    inputs = [_within(found.folder, found.folder / file, name.partition("/")[2]) for file in found.files]
    return [
        each._replace(dataset=name, licence=found.licence, revision=found.revision, offline=found.offline)
        for each in inputs
    ]


def _named_on_hub(path: Path) -> tuple[str, str] | None:
    """Return a dataset's name and the path in it, or None for a local path, even a mistyped one.

    Local paths begin with an existing folder, or look like a file without a dataset.
    """
    name, inside = "/".join(path.parts[:2]), "/".join(path.parts[2:])
    if not hub.is_dataset_name(name) or Path(path.parts[0]).exists() or ".." in path.parts:
        return None
    return None if not inside and path.suffix in _OF_FILES else (name, inside)


def _within(folder: Path, path: Path, root: str) -> Input:
    place, root = path.relative_to(folder), name_of(Path(root))
    return Input(path, name_of(place), f"{root}/{_stem(place)}", root)


def _stem(path: Path) -> str:
    return name_of(path.parent / Path(plain_name(path)).stem)


def _ending(path: Path) -> str:
    return Path(plain_name(path)).suffix.lower()


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        yield from (Path(parent, each) for each in sorted(files) if not each.startswith("."))


def _saved(folder: Path) -> list[Path]:
    """Return the files of a dataset saved by the `datasets` library, split by split, or nothing."""
    if (folder / "dataset_dict.json").is_file():
        splits = [folder / name for name in _named(folder / "dataset_dict.json", "splits")]
        return [file for split in splits for file in _shards(split)]
    return _shards(folder)


def _shards(folder: Path) -> list[Path]:
    if not (folder / "dataset_info.json").is_file() or not (folder / "state.json").is_file():
        return []
    return [folder / name for name in _named(folder / "state.json", "_data_files")]


def _named(path: Path, field: str) -> list[str]:
    """Return the names in a list of a JSON file. They must be in its folder."""
    with reading(path):
        content = decode(path.read_bytes(), name_of(path))
    listed = content.get(field) if isinstance(content, dict) else None
    items = listed if isinstance(listed, list) else [None]
    names = [item.get("filename") if isinstance(item, dict) else item for item in items]
    if not all(
        isinstance(name, str) and name not in ("", "..") and Path(name).name == name for name in names
    ):
        raise RecordError(f"{name_of(path)}: {field} should be a list of names (found {listed!r:.60}).")
    return [name for name in names if name]


def licensed_records(file: Path) -> Iterator[Chain]:
    """Read records. One without a licence gets all those that `FILE.run.json` lists.

    Raises:
        RecordError: The file cannot be read.
    """
    licences = [name for name in licences_beside(file) if name != UNKNOWN]
    for chain in read_records(file):
        origin = chain.meta.get("origin")
        if not licences or licence_in(origin) != UNKNOWN:
            yield chain
            continue
        known = origin if isinstance(origin, dict) else {}
        yield chain.model_copy(update={"meta": {**chain.meta, "origin": {**known, "licence": licences}}})
