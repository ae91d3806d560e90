"""The output folder of a run: its lock, what may lie there, and the result with its sources.

A result is written into a temporary folder and moved into place, `config.json` last.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from redraft.chain.read.files import stem_of
from redraft.engines.load import DEFAULTS
from redraft.errors import OutputError, UsageError
from redraft.jobs.files import lock, sync, sync_folder
from redraft.jobs.hub import fetch_card
from redraft.jobs.licences import UNKNOWN, Source
from redraft.jobs.provenance import licences_beside
from redraft.train import checkpoints
from redraft.train.loop import Loop
from redraft.train.prepare import Prepared
from redraft.weights.card import CARD, bases_of, card_text, is_known, is_ours, model_name, sources_of

_RESULT = re.compile(r"((adapter|generation)_)?config\.json|(adapter_)?model.*\.safetensors(\.index\.json)?")
"""Files of a trained model or adapter."""


def check_output(output: Path, *refs: str) -> None:
    """Raise `UsageError` if the output would replace a model or adapter that the run starts from."""
    for part in itertools.chain.from_iterable(map(_parts, refs)):
        path, whole = part.expanduser().resolve(), output.resolve()
        inside = path.relative_to(whole).parts if path.is_relative_to(whole) else None
        if inside is not None and (not inside or checkpoints.is_name(inside[0])):
            raise UsageError(
                f"training starts from {part}, which the output {output} would replace.",
                hint="Name another --output_dir.",
            )


def _parts(ref: str) -> Iterator[Path]:
    """Yield the folders that a reference may name: of the model and of adapters. A name may have a plus.

    `default` is always the embedded model.
    """
    while "+" in ref and not Path(ref).expanduser().exists():
        ref, _, last = ref.rpartition("+")
        yield Path(last)
    if ref not in DEFAULTS:
        yield Path(ref)


def save(loop: Loop, checkpoint: Path | None = None) -> None:
    """Save the trained model or adapter into the output folder, `config.json` last.

    Args:
        checkpoint: The folder to copy it from. By default, the loop's own model is saved.
    """
    output = loop.folder
    aside = output / ".saving-result"
    try:
        if loop.args.should_save:
            shutil.rmtree(aside, ignore_errors=True)  # left by a run that died while saving
            aside.mkdir()  # fails on a planted link
        if checkpoint is None:
            loop.trained.save_model(aside)
        if not loop.args.should_save:
            return
        if checkpoint is not None:  # its model, without the optimizer and other states
            for path in results_in(checkpoint):
                shutil.copyfile(path, aside / path.name)
            loop.trained.save_texts(aside)
        for path in aside.iterdir():
            sync(path)
        remove_result(output)
        for path in sorted(aside.iterdir(), key=_decides):
            if path.name != CARD or not (output / CARD).exists():  # what is left there is the user's own
                path.replace(output / path.name)
        shutil.rmtree(aside)
        sync_folder(output)
    except (OSError, SafetensorError) as error:
        raise checkpoints.unwritable(output, error) from error


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Lock an output. The lock ends with its process."""
    handle = os.open(output, os.O_RDONLY)
    try:
        if not lock(handle):
            raise OutputError(
                f"another run is writing to {output}.",
                hint="Wait for it to end, or name another --output_dir.",
            )
        yield
    finally:
        os.close(handle)


def results_in(folder: Path) -> list[Path]:
    """Return the files of a trained model or adapter in a folder."""
    return [each for each in folder.iterdir() if _RESULT.fullmatch(each.name)]


def _decides(path: Path) -> bool:
    """Return whether a file makes a folder a model or an adapter: it is moved last and deleted first."""
    return path.name in {"config.json", "adapter_config.json"}


def remove_result(output: Path) -> None:
    """Delete an earlier result, so that no adapter meets other weights."""
    try:
        card = [output / CARD] if (output / CARD).is_file() and is_ours(output) else []
        for path in sorted([*results_in(output), *card], key=_decides, reverse=True):
            if path.is_file():
                path.unlink()
    except OSError as error:
        raise checkpoints.unwritable(output, error) from error


def licensed(
    title: str, model: str, prepared: Prepared, paths: Sequence[str]
) -> tuple[tuple[Source, ...], str | None]:
    """Return the sources of a result, and its card, or None if no licence is known."""
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
