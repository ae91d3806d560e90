"""Which GGUF files OpenVINO reads, and a copy of those that it would read inexactly.

It reads llama, qwen2 and qwen3. Of the number formats it keeps Q4_0, Q8_0 and F16 as they are, but rounds the
offsets of Q4_1 and of K-quants to whole steps: of 128 next tokens of the default model, 79 were those of the
exact weights, and 107 with the same weights in Q8_0, at the same speed. So other formats become Q8_0, in a
copy in the cache. It takes no adapters on such a file either; they are merged into the copy.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import NamedTuple

from redraft.errors import ModelError, OutputError
from redraft.jobs.files import locked, replacing
from redraft.jobs.machine import cache_folder
from redraft.weights.gguf.reader import GGUFHeader, Tensor, check_model, read_header
from redraft.weights.gguf.requantise import rewrite

READ = ("llama", "qwen2", "qwen3")  # architectures
EXACT = (0, 1, 2, 8)  # ggml types that are read exactly: F32, F16, Q4_0, Q8_0
COPIES = 4  # copies in the cache; the oldest ones go

_LAYOUT = 1  # changes when copies are made in another way


class Prepared(NamedTuple):
    """What the process loads: a file, and a folder for OpenVINO's form of its tokenizer."""

    file: Path
    tokenizer: Path


def check(model: Path, headers: Sequence[GGUFHeader]) -> None:
    """Raise `ModelError` for a model with adapters that OpenVINO does not read, or would read wrongly."""
    header, *adapters = headers
    architecture = header.text("general.architecture")
    scaling = header.text(f"{architecture}.rope.scaling.type") or "none"
    names, others = header.tensors, [name for each in adapters for name in each.tensors]
    faults = {
        f"its architecture, {architecture!r:.40}, is not {', '.join(READ)}": architecture not in READ,
        "it has experts": header.number(f"{architecture}.expert_count"),
        "it stretches its positions": scaling != "none" or "rope_freqs.weight" in names,
        "it is one part of several": (header.number("split.count") or 1) > 1,
        "it has an unknown number format": any(tensor.size is None for tensor in names.values()),
        "an adapter changes its embedding": "token_embd.weight.lora_a" in others,
    }
    if found := next((fault for fault, is_there in faults.items() if is_there), None):
        raise ModelError(f"OpenVINO does not read {model}: {found}.", hint="--engine llamacpp reads it.")


def loaded_bytes(header: GGUFHeader) -> int:
    """Return the memory that the weights of a model take while they are loaded.

    Twice their size was measured (an increase of 290 MB for a file of 145), and 1.6 times after it.
    """
    sizes = (each.size or 0 if _is_exact(each) else prod(each.shape) for each in header.tensors.values())
    return 2 * sum(sizes)


def _is_exact(tensor: Tensor) -> bool:
    return len(tensor.shape) < 2 or tensor.kind in EXACT


def prepare(model: Path, headers: Sequence[GGUFHeader], adapters: Sequence[Path]) -> Prepared:
    """Return what to load for a model with adapters, which were checked. It may write a copy first.

    Raises:
        OutputError: The copy cannot be written.
    """
    folder = _home(model, adapters)
    if not adapters and all(map(_is_exact, headers[0].tensors.values())):
        return Prepared(model, folder / "tokenizer")
    made = folder / model.name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_suffix(".lock")):
            folder.mkdir(exist_ok=True)
            if not _is_whole(made):
                with replacing(made) as copy:
                    rewrite(model, copy, adapters)
        os.utime(folder)
        _forget(folder.parent)
    except OSError as error:
        raise OutputError(
            f"the copy of {model} for OpenVINO cannot be written to {folder}: {error.strerror or error}.",
            hint="Make room, choose another folder (export REDRAFT_CACHE=…), or --engine llamacpp.",
        ) from None
    return Prepared(made, folder / "tokenizer")


def _is_whole(copy: Path) -> bool:
    """Return whether a copy is there with all its tensors. A machine that lost its power may leave others."""
    try:
        check_model(copy, read_header(copy))
    except ModelError:
        return False
    return True


def _home(model: Path, adapters: Sequence[Path]) -> Path:
    """Return the folder in the cache for these files, as they are now."""
    files = [path.resolve() for path in (model, *adapters)]
    facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    name = hashlib.sha256(json.dumps([_LAYOUT, facts]).encode()).hexdigest()[:16]
    return cache_folder() / "openvino" / name


def _forget(home: Path) -> None:
    """Remove the folders that were used longest ago, and the locks beside them."""
    folders = sorted(
        (each for each in home.iterdir() if each.is_dir()), key=lambda each: each.stat().st_mtime
    )
    for old in folders[:-COPIES]:
        shutil.rmtree(old, ignore_errors=True)
        old.with_suffix(".lock").unlink(missing_ok=True)
