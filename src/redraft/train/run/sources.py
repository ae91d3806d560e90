"""What a trained model is made from, with licences: the base by its card, the data by its records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from redraft.formats.read.files import stem_of
from redraft.hub import fetch_card
from redraft.jobs.provenance import licences_beside
from redraft.licences import UNKNOWN, Source
from redraft.train.data.store import Prepared
from redraft.weights.card import bases_of, card_text, is_known, model_name, sources_of


def licensed(
    title: str, model: str, prepared: Prepared, paths: Sequence[str]
) -> tuple[tuple[Source, ...], str | None]:
    """Return the sources of a result, and its card, or None if no licence is known.

    Args:
        title: The heading of the card.
        model: The base: a folder, or org/name on the hub.
        prepared: The data.
        paths: The files that it was read from.
    """
    path = Path(model).expanduser()
    here = path.is_dir()
    folder = path if here else fetch_card(model)
    name = model_name(path) if here else model
    base = sources_of(folder, "base", name) if folder else (Source("base", name),)
    sources = tuple(dict.fromkeys((*base, *_data(prepared, paths))))
    if not is_known(sources):
        return sources, None
    return sources, card_text(title, sources, bases_of(path) if here else [model])


def _data(prepared: Prepared, paths: Sequence[str]) -> Iterator[Source]:
    """Yield the data sets. The licence of a format without a place for it is in the record beside it."""
    beside = {stem_of(Path(path)): licences_beside(Path(path)) for path in paths}
    for name, licences in sorted(prepared.report.origins.items()):
        for licence in sorted(licences):
            noted = beside.get(name, []) if licence == UNKNOWN else []
            yield from (Source("data", name, each) for each in noted or [licence])
