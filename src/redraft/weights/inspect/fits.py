"""Whether the parts of a model, a delta or an adapter fit each other: what the conversions check, as faults.

Each generator yields faults, one in each line, and may end with the error of the conversion that it shares
its code with. `Report.hold` takes both. A kind that redraft does not convert is `NotHandled`, and no fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from redraft.weights.checkpoint import Checkpoint, open_checkpoint, read_small
from redraft.weights.delta import recorded_recipe
from redraft.weights.folder import refuse_quantised
from redraft.weights.gguf.config import numbers_from_config
from redraft.weights.gguf.names import FAMILIES, gguf_name
from redraft.weights.gguf.quant import TensorReader
from redraft.weights.gguf.reader import GGUFHeader
from redraft.weights.gguf.reader import adapter_faults as halves_faults
from redraft.weights.gguf.sizes import misfits, surplus
from redraft.weights.gguf.to_folder import read_numbers, refuse_split
from redraft.weights.header import NotHandled
from redraft.weights.lora.adapter import Adapter, read_adapter
from redraft.weights.lora.plan import plan_merge
from redraft.weights.tokenizers.from_gguf import tokenizer_files
from redraft.weights.tokenizers.sentencepiece import read_sentencepiece
from redraft.weights.tokenizers.to_gguf import tokenizer_metadata
from redraft.weights.vocabulary import is_table

_CHOOSES_LAYERS = ("layers_to_transform", "exclude_modules")
_TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+=* [0-9]+\r?\n")


def model_faults(checkpoint: Checkpoint) -> Iterator[str]:
    """Hold config.json against itself and against the tensors."""
    config = checkpoint.json("config.json")
    if not config:
        raise NotHandled("there is no config.json")
    refuse_quantised(checkpoint)
    sizes = numbers_from_config(config).sizes
    shapes = {gguf_name(name) or name: each.shape for name, each in checkpoint.tensors.items()}
    yield from misfits(sizes, shapes, in_hf=True)


def delta_faults(checkpoint: Checkpoint) -> Iterator[str]:
    """Hold the header of a delta against its tensors."""
    recorded_recipe(checkpoint)
    yield from ()


def sentencepiece_faults(folder: Path) -> Iterator[str]:
    """Read tokenizer.model, where there is one: some tools take it even beside a tokenizer.json."""
    path = folder / "tokenizer.model"
    if path.exists():
        if _TIKTOKEN.match(read_small(path)):
            raise NotHandled("it is a vocabulary of tiktoken")
        read_sentencepiece(path)
    yield from ()


def tokenizer_faults(checkpoint: Checkpoint) -> Iterator[str]:
    """Hold the vocabulary against itself and against the rows of the embedding."""
    folder = checkpoint.folder
    rows = next((each.shape[0] for name, each in checkpoint.tensors.items() if is_table(name)), None)
    if rows and any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model")):
        tokenizer_metadata(folder, rows)
    yield from ()


def adapter_faults(folder: Path, *, allow_pickle: bool) -> Iterator[str]:
    """Hold an adapter against its settings, and against its base where that is a folder of this machine."""
    adapter = read_adapter(folder, allow_pickle=allow_pickle)
    named = adapter.config.get("base_model_name_or_path")
    base = Path(named) if isinstance(named, str) and named else None
    if base is None or not base.is_dir():
        raise NotHandled(f"its base {named!r:.120} is not a folder here, so whether it fits is not known")
    yield from _left_out(open_checkpoint(base, allow_pickle=allow_pickle), adapter)


def _left_out(base: Checkpoint, adapter: Adapter) -> Iterator[str]:
    """Yield modules of the base that the settings name and that the adapter has no tensors for."""
    plan = plan_merge(base, adapter, None)
    named = adapter.config.get("target_modules")
    if not isinstance(named, list) or any(adapter.config.get(key) for key in _CHOOSES_LAYERS):
        return
    endings = tuple(f".{name}.weight" for name in named)
    for name, target in plan.targets.items():
        changes = target.change or target.tokens or target.source is adapter.weights
        if f".{name}".endswith(endings) and len(target.info.shape) == 2 and not changes:
            yield f"{adapter.folder} has no tensors for {name.removesuffix('.weight')!r:.120}, which it names"


def gguf_faults(path: Path, header: GGUFHeader) -> Iterator[str]:
    """Hold the numbers of a GGUF file against its tensors."""
    refuse_split(path, header)
    numbers, shapes = read_numbers(TensorReader(path, header))
    yield from misfits(numbers.sizes, shapes, in_hf=False)
    if more := surplus(numbers.sizes, shapes, in_hf=False):
        yield f"{path} has {more}"


def gguf_tokenizer_faults(header: GGUFHeader) -> Iterator[str]:
    """Hold the vocabulary of a GGUF file against itself. Files that are no language model may have none."""
    known = {family.gguf for family in FAMILIES}
    if header.text("general.architecture") in known or "tokenizer.ggml.model" in header.metadata:
        tokenizer_files(header.metadata)
    yield from ()


def gguf_adapter_faults(path: Path, header: GGUFHeader) -> Iterator[str]:
    """Hold the halves of a GGUF adapter against each other."""
    for fault in halves_faults(header):
        yield f"{path} is damaged: {fault}"
