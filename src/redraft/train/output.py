"""The output folder of a run: its lock, what may lie there, and the result with its sources.

A result is written into a temporary folder and moved into place, `config.json` last. The GGUF file of
`--gguf` is checked before anything is loaded, and written after training.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from redraft.engines.load import DEFAULTS
from redraft.errors import OutputError, UsageError
from redraft.files import lock, sync, sync_folder
from redraft.formats.read.files import stem_of
from redraft.hub import fetch_card
from redraft.jobs.provenance import licences_beside
from redraft.licences import UNKNOWN, Source
from redraft.train import checkpoints
from redraft.train.loop import Loop
from redraft.train.options import TrainOptions
from redraft.train.prepare import Prepared
from redraft.train.settings import RunSettings
from redraft.weights.card import CARD, bases_of, card_text, is_known, is_ours, model_name, sources_of
from redraft.weights.checkpoint import read_json
from redraft.weights.gguf.families import sizes_from_config
from redraft.weights.output import Run
from redraft.weights.replace import MANIFEST, refuse_existing

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


def check_gguf(settings: RunSettings[Any], model: str) -> None:
    """Raise if the file of `--gguf` cannot be written, or cannot hold the result."""
    own = settings.own
    if not own.gguf:
        return
    if not own.gguf.lower().endswith(".gguf"):
        hint = f"--gguf {own.gguf.rstrip('/')}.gguf"
        raise UsageError(f"--gguf {own.gguf} does not end in .gguf.", hint=hint)
    output = Path(settings.theirs["output_dir"]).expanduser()
    _check_place(Path(own.gguf), None if own.overwrite_output_dir else output)
    config = read_json(Path(model) / "config.json")  # a model on the hub has none here yet
    tied = config and sizes_from_config(config).tied
    if tied and own.lora is not False and "lm_head" in own.lora_target_modules:
        raise UsageError(
            "--gguf: a GGUF adapter cannot change 'lm_head', because this model uses one matrix for input "
            "and output embeddings.",
            hint="Leave lm_head out of --lora_target_modules, or leave --gguf out.",
        )


def _check_place(target: Path, output: Path | None) -> None:
    folder = next(each for each in target.absolute().parents if each.exists())
    if target.is_dir():
        raise OutputError(f"--gguf {target} is a folder.", hint=f"--gguf {target / 'NAME.gguf'}")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(f"--gguf {target}: {folder} is not writable.", hint="--gguf FILE")
    hint = "Move it away, or name another --gguf FILE."
    try:
        refuse_existing(target, force=True)
    except OutputError as error:
        raise OutputError(f"--gguf: {error.message}", hint=hint) from None
    if not output or not target.exists():
        return
    inputs = read_json(target.with_name(f"{target.name}.{MANIFEST}")).get("inputs")
    listed = inputs.values() if isinstance(inputs, dict) else ()
    found = [str(each["path"]) for each in listed if isinstance(each, dict) and "path" in each]
    if found and output.resolve() not in [Path(each).resolve() for each in found]:
        raise OutputError(f"--gguf: {target} was made from {found[0]}, not from {output}.", hint=hint)


def export_result(own: TrainOptions, output: Path, base: str, run: Run) -> None:
    """Write the file of `--gguf`, of an adapter or of the whole model."""
    target = Path(own.gguf or "")
    if own.lora:
        from redraft.weights.lora.to_gguf import lora_gguf

        lora_gguf(output, target, run, base=_base_folder(base), f16=True)
    else:
        from redraft.weights.gguf.from_folder import export_gguf

        export_gguf(output, target, run, quant=own.gguf_quant)


def _base_folder(base: str) -> Path:
    """Return the folder of the base; for one on the hub, where it was downloaded to."""
    if Path(base).exists():
        return Path(base)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(base, "config.json")
    return Path(found).parent if isinstance(found, str) else Path(base)
