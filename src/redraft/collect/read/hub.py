"""Fetch datasets of the Hugging Face hub as files. Their code is never run.

A dataset may have several configurations and splits in arbitrary folders and files, and may repeat questions
among them. So either all files form one set, judged by their names, or the user has to name one.

If the hub cannot be reached, the cache is used. The licence comes from the dataset's card. `redraft.hub` asks
the hub.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from redraft.errors import UsageError
from redraft.hub import OutOfReach, asking, endpoint

_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_CARD = "README.md"
_SHARD = re.compile(r"(-\d{5}-of-\d{5})?(-[0-9a-f]{16})?(\.[a-z]+)+$")
"""The part of a file's name that differs within a set, as the `datasets` library names files."""

_EVALUATION = frozenset({"test", "tests", "validation", "valid", "val", "dev", "eval", "evaluation"})
"""Words in names of evaluation files."""

_SHOWN = 12  # sets to name in an error


class Dataset(NamedTuple):
    """Local files of a dataset.

    Attributes:
        files: Paths in the folder, in order.
        revision: Their commit.
        offline: The hub could not be reached, and the files are from the cache.
    """

    folder: Path
    files: Sequence[str]
    licence: str | None
    revision: str
    offline: bool


def is_name(text: str) -> bool:
    """Whether a text looks like a dataset's name, `org/name`."""
    return _NAME.fullmatch(text) is not None


def fetch(name: str, inside: str, endings: Sequence[str]) -> Dataset:
    """Fetch files of a dataset, unless they are in the cache.

    Args:
        name: `org/name`.
        inside: A folder or file of it, or the start of file names; empty for all.
        endings: Wanted endings.

    Raises:
        UsageError: There is no such dataset or file, it has several sets, access is denied, or there is
            neither a connection nor a cached copy.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        with asking(name, "dataset"):
            about = HfApi(endpoint=endpoint()).dataset_info(name, timeout=10)
    except OutOfReach as error:
        return _cached(name, inside, endings, error)
    there = [each.rfilename for each in about.siblings or []]
    files = _chosen(name, inside, there, endings)
    patterns = [_CARD, *map(escape, files)]
    try:
        with asking(name, "dataset"):
            folder = snapshot_download(
                name, repo_type="dataset", allow_patterns=patterns, endpoint=endpoint()
            )
    except OutOfReach as error:
        raise UsageError(
            f"{name} could not be fetched from the hub: {error}",
            hint="Check the connection and try again: complete files are not fetched again.",
        ) from None
    return Dataset(Path(folder), files, _licence(about.card_data), Path(folder).name, offline=False)


def _cached(name: str, inside: str, endings: Sequence[str], error: OutOfReach) -> Dataset:
    """Return the copy of an earlier import from the cache."""
    from huggingface_hub import DatasetCard, snapshot_download

    patterns = [f"{escape(inside)}*{ending}" for ending in endings]
    try:
        place = snapshot_download(name, repo_type="dataset", allow_patterns=patterns, local_files_only=True)
    except OSError:
        raise UsageError(
            f"{name} is no file or folder here, the hub cannot be reached, and its cache here does not have "
            f"all of it: {error}",
            hint="Check the path, or the connection. A copy from elsewhere is read as a folder: redraft data "
            "import FOLDER",
        ) from None
    folder = Path(place)
    there = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    card = folder / _CARD
    licence = _licence(DatasetCard.load(card).data) if card.is_file() else None
    return Dataset(folder, _chosen(name, inside, there, endings), licence, folder.name, offline=True)


def _chosen(name: str, inside: str, there: Sequence[str], endings: Sequence[str]) -> list[str]:
    """Return the requested files, if they form one set."""
    known = sorted(file for file in there if file.endswith(tuple(endings)) and not file.startswith("."))
    files = [file for file in known if not inside or _is_in(file, inside)]
    if not files:
        what = f"no {inside}" if known else "no files of records"
        has = ", ".join((_sets(known) or list(there))[:_SHOWN]) or "nothing"
        hint = f"Such files end in: {' '.join(endings)}"
        raise UsageError(f"{name} has {what} on the hub. It has: {has}.", hint=None if known else hint)
    for_evaluation = [file for file in files if _evaluates(file)]
    folders = {PurePosixPath(file).parent for file in files}
    if (for_evaluation and len(for_evaluation) < len(files)) or (not inside and len(folders) > 1):
        sets = _sets(files)
        one = next((each for each in sets if not _evaluates(each)), sets[0])
        more = f" and {len(sets) - _SHOWN:,} more" if len(sets) > _SHOWN else ""
        raise UsageError(
            f"{'/'.join(filter(None, (name, inside)))} has several sets of records: "
            f"{', '.join(sets[:_SHOWN])}{more}.",
            hint=f"Name the sets to train on: redraft data import {name}/{one}",
        )
    return files


def _is_in(file: str, inside: str) -> bool:
    return file == inside or file.startswith(tuple(inside + mark for mark in "/-."))


def _evaluates(file: str) -> bool:
    return not _EVALUATION.isdisjoint(re.split(r"[^a-z]+", file.lower()))


def _sets(files: Sequence[str]) -> list[str]:
    """Return names of files without number and ending."""
    return list(dict.fromkeys(_SHARD.sub("", file) for file in files))


def _licence(card: Any) -> str | None:
    licence = getattr(card, "license", None)
    return ", ".join(map(str, licence)) if isinstance(licence, list) else licence
