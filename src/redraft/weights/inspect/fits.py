"""Checks for `verify` that the parts of a model, delta or adapter fit each other, as the conversions do.

A check raises the error of the conversion whose code it uses. One that can find several faults yields them,
one per line. `Verdict.check` collects both. `NotHandled`, for a kind that redraft does not convert, is not a
fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from redraft.weights.checkpoint import Checkpoint, open_checkpoint, read_small
from redraft.weights.folder import refuse_quantised
from redraft.weights.gguf.config import numbers_from_config
from redraft.weights.gguf.names import FAMILIES, gguf_name
from redraft.weights.gguf.quant import TensorReader
from redraft.weights.gguf.reader import GGUFHeader
from redraft.weights.gguf.sizes import misfits, surplus
from redraft.weights.gguf.to_folder import read_numbers, refuse_split
from redraft.weights.header import NotHandled
from redraft.weights.lora.adapter import LoraAdapter, read_adapter
from redraft.weights.lora.plan import plan_merge
from redraft.weights.tokenizers.from_gguf import tokenizer_files
from redraft.weights.tokenizers.sentencepiece import read_sentencepiece
from redraft.weights.tokenizers.to_gguf import tokenizer_metadata
from redraft.weights.vocabulary import is_table

_CHOOSES_LAYERS = ("layers_to_transform", "exclude_modules")
_TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+=* [0-9]+\r?\n")


def model_faults(checkpoint: Checkpoint) -> Iterator[str]:
    """Check config.json by itself and against the tensors."""
    config = checkpoint.json("config.json")
    if not config:
        raise NotHandled("there is no config.json")
    refuse_quantised(checkpoint)
    sizes = numbers_from_config(config).sizes
    shapes = {gguf_name(name) or name: each.shape for name, each in checkpoint.tensors.items()}
    yield from misfits(sizes, shapes, in_hf=True)


def check_sentencepiece(folder: Path) -> None:
    """Check tokenizer.model, if there is one. Some tools prefer it to tokenizer.json."""
    path = folder / "tokenizer.model"
    if path.exists():
        if _TIKTOKEN.match(read_small(path)):
            raise NotHandled("it is a tiktoken vocabulary")
        read_sentencepiece(path)


def check_tokenizer(checkpoint: Checkpoint) -> None:
    """Check the vocabulary by itself and against the rows of the embedding."""
    folder = checkpoint.folder
    rows = next((each.shape[0] for name, each in checkpoint.tensors.items() if is_table(name)), None)
    if rows and any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model")):
        tokenizer_metadata(folder, rows)


def adapter_faults(folder: Path, *, allow_pickle: bool) -> Iterator[str]:
    """Check an adapter against its settings, and against its base if that is a local folder."""
    adapter = read_adapter(folder, allow_pickle=allow_pickle)
    named = adapter.config.get("base_model_name_or_path")
    base = Path(named) if isinstance(named, str) and named else None
    if base is None or not base.is_dir():
        raise NotHandled(f"its base {named!r:.120} is not a local folder, so whether it fits is unknown")
    yield from _left_out(open_checkpoint(base, allow_pickle=allow_pickle), adapter)


def _left_out(base: Checkpoint, adapter: LoraAdapter) -> Iterator[str]:
    """Yield modules of the base that the settings name, but for which the adapter has no tensors."""
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
    """Check the numbers of a GGUF file against its tensors."""
    refuse_split(path, header)
    numbers, shapes = read_numbers(TensorReader(path, header))
    yield from misfits(numbers.sizes, shapes, in_hf=False)
    if more := surplus(numbers.sizes, shapes, in_hf=False):
        yield f"{path} has {more}"


def gguf_tokenizer_faults(header: GGUFHeader) -> Iterator[str]:
    """Check the vocabulary of a GGUF file by itself and against the rows of the embedding."""
    known = {family.gguf for family in FAMILIES}
    tokens, table = header.metadata.get("tokenizer.ggml.tokens"), header.tensors.get("token_embd.weight")
    if table and isinstance(tokens, tuple) and table.shape[-1] != len(tokens):
        yield f"token_embd.weight has {table.shape[-1]:,} rows, but the vocabulary {len(tokens):,} tokens"
    # Files that are not language models need no tokenizer.
    if header.text("general.architecture") in known or "tokenizer.ggml.model" in header.metadata:
        tokenizer_files(header.metadata)
