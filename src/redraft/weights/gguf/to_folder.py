"""Convert a GGUF file to a Hugging Face folder that can be trained, in bounded memory.

The gguf package dequantises values to float32. This module rounds the values once, to the folder's dtype, and
puts the rows of q and k back into Hugging Face's order. Quantisation errors remain.

Split files (llama-gguf-split joins them), other architectures and adapters are not supported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from redraft.errors import ModelError
from redraft.weights.card import CARD, card_of
from redraft.weights.checkpoint import portions
from redraft.weights.gguf.config import SAMPLING, ModelNumbers, config_of, numbers_from_metadata
from redraft.weights.gguf.families import Shape, check_tensors, hf_name, permuted_heads, shortest, unpermute
from redraft.weights.gguf.from_folder import ROPE_FACTORS
from redraft.weights.gguf.quant import Kind, TensorReader
from redraft.weights.gguf.reader import GGUFHeader, Tensor, check_model, describe_file, read_header
from redraft.weights.header import TensorInfo, torch_dtype
from redraft.weights.output import BY_DEFAULT, OutputFolder, Run, layout, new_folder
from redraft.weights.replace import write_json
from redraft.weights.tokenizers.from_gguf import write_tokenizer

MOST_FACTORS = 1 << 12
"""The maximum number of rotary frequency divisors in a file. A model needs one per two elements of a head."""

_IDS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}


@dataclass(frozen=True)
class SourceTensor:
    """A tensor of the folder to write."""

    info: TensorInfo  # its name, dtype and shape in the folder
    tensor: Tensor  # the tensor in the file
    heads: int  # the number of heads if the file permutes its rows within each head, otherwise 0


def import_gguf(file: Path, dst: Path, run: Run = BY_DEFAULT, *, dtype: str | None = None) -> None:
    """Convert a GGUF file to a model's folder: weights, config.json, generation_config.json and tokenizer.

    Weights are safetensors files of 5 GB at most. `dtype` is F32, F16 or BF16. The default is the type of the
    file's matrices, or F16 for quantised matrices.
    """
    header = read_header(file, whole=True)
    check_model(file, header)
    if (parts := header.number("split.count") or 1) > 1:
        hint = "Join them first: llama-gguf-split --merge FIRST-00001-of-….gguf WHOLE.gguf (llama.cpp)"
        raise ModelError(f"{file} is one of {parts} parts of a split model, not a whole model.", hint=hint)
    reader = TensorReader(file, header)
    numbers, shapes = _read_numbers(reader)
    check_tensors(numbers.sizes, shapes, str(file), in_hf=False)
    if dtype is None:
        kinds = {reader.kind(tensor) for tensor in header.tensors.values() if len(tensor.shape) > 1}
        fine = Kind.F32 in kinds or {Kind.F16, Kind.BF16} <= kinds
        dtype = "F32" if fine else "BF16" if kinds == {Kind.BF16} else "F16"
    sizes = numbers.sizes
    sources: dict[str, SourceTensor] = {}  # by name in the folder, in the model's order
    for name, shape in sizes.tensors():
        tensor = header.tensors[name]
        reader.kind(tensor)
        heads = permuted_heads(sizes.family, name, sizes.heads, sizes.kv_heads)
        info = TensorInfo(hf_name(name) or name, dtype, shape)
        sources[info.name] = SourceTensor(info, tensor, heads)
    shards = layout(source.info for source in sources.values())
    with new_folder(dst, run, manifest={"inputs": {"source": describe_file(file)}, "dtype": dtype}) as out:
        _write_texts(out, header, numbers, dtype)
        out.write_rounded(
            shards,
            lambda info: values_of(reader, sources[info.name]),
            size=lambda info: sources[info.name].tensor.size or 0,
        )


def values_of(reader: TensorReader, source: SourceTensor) -> Iterator[torch.Tensor]:
    """Yield a tensor's values in float32 and Hugging Face's row order, as blocks of rows or as one vector."""
    if len(source.info.shape) == 1:
        vector = torch.from_numpy(reader.rows(source.tensor)[0])
        yield unpermute(vector, source.heads) if source.heads else vector
        return
    count, row = source.info.shape
    for start, stop in portions(count, row, source.heads):
        rows = torch.from_numpy(reader.rows(source.tensor, start, stop))
        yield unpermute(rows, source.heads * (stop - start) // count) if source.heads else rows


def _read_numbers(reader: TensorReader) -> tuple[ModelNumbers, dict[str, Shape]]:
    shapes = {tensor.name: tensor.shape[::-1] for tensor in reader.header.tensors.values()}
    factors: tuple[float, ...] = ()
    if divisors := reader.header.tensors.get(ROPE_FACTORS):
        if len(divisors.shape) != 1 or not 0 < divisors.shape[0] <= MOST_FACTORS:
            found, wanted = f"has the shape {divisors.shape}", f"one dimension of 1 to {MOST_FACTORS} values"
            raise ModelError(f"{reader.path}: {ROPE_FACTORS} {found}, but needs {wanted}.")
        factors = tuple(reader.rows(divisors)[0].tolist())
    numbers = numbers_from_metadata(reader.header.metadata, shapes, factors)
    shapes.pop(ROPE_FACTORS, None)
    return numbers, shapes


def _write_texts(out: OutputFolder, header: GGUFHeader, numbers: ModelNumbers, dtype: str) -> None:
    keys = {ours: f"tokenizer.ggml.{theirs}_token_id" for ours, theirs in _IDS.items()}
    ids: dict[str, Any] = {
        ours: header.metadata[key] for ours, key in keys.items() if header.number(key) is not None
    }
    ends = [header.number(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    several = list(dict.fromkeys(end for end in ends if end is not None))
    ids |= {"eos_token_id": several} if len(several) > 1 else {}
    config = config_of(numbers, str(torch_dtype(dtype)).removeprefix("torch.")) | ids
    if native := header.text("redraft.format"):
        config["redraft_format"] = native
    write_json(out.aside / "config.json", config)
    found = {ours: header.metadata.get(f"general.sampling.{theirs}") for ours, theirs in SAMPLING.items()}
    given = {ours: n for ours, n in found.items() if isinstance(n, int | float)}
    advised = {ours: n if isinstance(n, int) else shortest(n) for ours, n in given.items()}
    sampling = {**advised, "do_sample": True} if advised else {}
    write_json(out.aside / "generation_config.json", ids | sampling)
    write_tokenizer(header.metadata, out.aside)
    if card := card_of(header.metadata):
        (out.aside / CARD).write_text(card, "utf-8")
