"""Read a checkpoint in parts, from a Hugging Face folder or from a single file of weights.

Opening a checkpoint reads and checks only the headers. `read` returns a range of elements, so memory does not
grow with the model. `.bin` files are pickles and need permission (`weights.pickled`). A symbolic link in a
folder must not lead out of the folder (`redraft.jobs.files`). A file named by the user may be a link. For
GGUF files, see `gguf.reader`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redraft.errors import ModelError, UsageError
from redraft.jobs.files import check_model_links, open_inside
from redraft.weights import header
from redraft.weights.pickled import read_pickled, tensor_info

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

CHUNK = 8 << 20  # bytes to read at a time: efficient for a disk, and small enough to hold a dozen chunks

SAFETENSORS: Final = ".safetensors"
BIN: Final = ".bin"
MAX_JSON = 64 << 20
_MOST_VALUES, _MOST_IN_TOKENIZER = 1 << 21, 3 << 21
"""The most values in a JSON file, and in a tokenizer. An index of 140,000 tensors has 0.3 million values, and
Gemma 3's tokenizer has 2.2 million. With these limits, parsing takes up to 0.3 GB (measured)."""

SAMPLES, SAMPLE = 4, 1024  # places sampled in each tensor for its fingerprint, and elements read at each

SINGLES = ("model.safetensors", "adapter_model.safetensors", "pytorch_model.bin", "adapter_model.bin")


class _NoCheckpoint(ModelError):
    exit_status = UsageError.exit_status


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a model on disk."""

    path: Path  # the folder or file that was opened
    folder: Path  # its folder, which also holds configuration and tokenizer
    files: tuple[str, ...]  # the names of the files with tensors
    tensors: Mapping[str, header.TensorInfo]  # by name, in the order of files and bytes
    metadata: Mapping[str, str] = field(default_factory=dict)  # of all file headers, merged

    @cached_property
    def size(self) -> int:
        """The size of all tensors in bytes."""
        return sum(tensor.size for tensor in self.tensors.values())

    def read(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Return a copy of elements `start` to `stop` of a tensor, as a vector in the tensor's dtype."""
        tensor = self.tensors[name]
        stop = tensor.count if stop is None else stop
        if tensor.file.endswith(BIN):
            return _cut(self._pickled[name], start, stop).resolve_conj().resolve_neg()
        import torch

        path, width = self.folder / tensor.file, header.dtype_size(tensor.dtype)
        raw = torch.empty((stop - start) * width, dtype=torch.uint8)
        view, done = memoryview(raw.numpy().data), 0
        try:
            with path.open("rb", buffering=0) as file:
                while done < len(view):
                    at = tensor.offset + start * width + done
                    if not (got := os.preadv(file.fileno(), [view[done:]], at)):
                        raise ModelError(f"{path} became shorter while it was read.", hint=header.AGAIN)
                    done += got
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}.") from None
        return raw.view(header.torch_dtype(tensor.dtype))

    def chunks(self, name: str, size: int | None = None) -> Iterator[tuple[int, int]]:
        """Yield the start and stop index of each chunk. A chunk has at most `size` bytes (default: `CHUNK`).

        Only rows of more than `size` bytes are split.
        """
        tensor = self.tensors[name]
        fit = max((size or CHUNK) // header.dtype_size(tensor.dtype), 1)
        step = fit // tensor.row * tensor.row if tensor.row and tensor.row <= fit else fit
        for start in range(0, tensor.count, step):
            yield start, min(start + step, tensor.count)

    def json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the folder, such as `config.json`. A missing file gives an empty dict."""
        return read_json(self.folder / name)

    @cached_property
    def _pickled(self) -> dict[str, torch.Tensor]:
        return {k: v for file in self.files for k, v in read_pickled(self.folder / file).items()}


def open_checkpoint(path: Path, *, allow_pickle: bool = False) -> Checkpoint:
    """Open a folder, or a single `.safetensors` or `.bin` file. In a folder, `.safetensors` takes precedence.

    Raises:
        UsageError: There are only `.bin` files, and `allow_pickle` is not set.
        ModelError: There are no weights, or a file is missing, damaged, or a link to another folder.
    """
    folder = path if path.is_dir() else path.parent
    if folder == path:
        check_model_links(folder)
    weight_map = find_files(path)
    files = tuple(sorted(set(weight_map.values())))
    pickled = [file for file in files if file.endswith(BIN)]
    if pickled and not allow_pickle:
        hint = "If you trust the author, let torch's restricted loader read the files: --allow-pickle"
        raise UsageError(f"{folder / pickled[0]} is a pickle, which can contain a program.", hint=hint)
    tensors: dict[str, header.TensorInfo] = {}
    metadata: dict[str, str] = {}
    for file in files:
        inside = folder / file
        if file.endswith(BIN):
            found = [tensor_info(inside, name, tensor) for name, tensor in read_pickled(inside).items()]
            texts: Mapping[str, str] = {}
        else:
            found, texts = header.read_safetensors_header(inside)
        for tensor in found:
            if tensor.name in tensors:
                first = tensors[tensor.name].file
                raise ModelError(f"{folder}: the tensor {tensor.name!r:.80} is in {first} and in {file}.")
            tensors[tensor.name] = tensor
        metadata |= texts
    for name, file in weight_map.items():
        if name and (name not in tensors or tensors[name].file != file):
            why = f"the index says that {name!r:.80} is in {file}, but that file lacks it"
            raise ModelError(f"{folder}: {why}.", hint=header.AGAIN)
    return Checkpoint(path, folder, files, tensors, metadata)


def portions(rows: int, row: int, heads: int = 0, size: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield the start and stop row of portions of about `size` bytes in float32. Rows have `row` elements.

    If `heads` is given, portions contain whole heads.
    """
    unit = rows // heads if heads else 1
    yield from pairwise([*range(0, rows, max((size or CHUNK) // max(4 * row * unit, 1), 1) * unit), rows])


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of limited size. Return an empty dict if the file does not exist."""
    try:
        raw = read_small(path)
        if header.count_values(raw) > (_MOST_IN_TOKENIZER if path.name == "tokenizer.json" else _MOST_VALUES):
            raise ModelError(f"{path} has more JSON values than redraft accepts.", hint=header.AGAIN)
        value = json.loads(raw.decode("utf-8-sig"))
        if b"\\ud" in raw.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except FileNotFoundError:
        return {}
    except UnicodeEncodeError:
        raise ModelError(f"{path} has a lone surrogate, half of a character.", hint=header.AGAIN) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {str(error)[:80]}.", hint=header.AGAIN) from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} contains a {type(value).__name__}, not an object.", hint=header.AGAIN)
    return value


def read_small(path: Path) -> bytes:
    """Read a small file. Raise if the file is large, a device, or a link to another folder."""
    try:
        with open_inside(path) as file:
            if os.fstat(file.fileno()).st_size > MAX_JSON:
                raise ModelError(f"{path} exceeds {MAX_JSON >> 20} MiB, the limit for files without weights.")
            raw = file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from None
    header.refuse_pointer(path, raw)
    return raw


def find_files(path: Path) -> dict[str, str]:
    """Map each tensor's name to the tensor's file. Without an index, the result is `{"": file}`."""
    if path.is_file():
        if path.suffix not in (SAFETENSORS, BIN):
            message = f"{path} is not a checkpoint: the file must end in .safetensors or .bin."
            hint = f"redraft weights from-gguf {path} -o DIR" if path.suffix.lower() == ".gguf" else None
            raise _NoCheckpoint(message, hint=hint)
        return {"": path.name}
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (path / index).exists():
            return _indexed(path / index)
    for single in SINGLES:
        if (path / single).exists():
            return {"": single}
    raise _nothing(path)


def _nothing(path: Path) -> ModelError:
    try:
        found = sorted(file.name for file in path.iterdir())
    except FileNotFoundError:
        return _NoCheckpoint(f"there is no {path}.", hint="Check the path.")
    except OSError as error:
        return ModelError(f"{path} cannot be read: {error.strerror}.")
    what = "no weights: no model.safetensors, no index, no pytorch_model.bin"
    hint = "Name the folder that has config.json and the weights."
    if "adapter_config.json" in found:
        hint = "This adapter lacks adapter_model.safetensors, which is written when training ends."
    return _NoCheckpoint(f"{path} has {what}. It contains: {', '.join(found[:8]) or 'nothing'}.", hint=hint)


def _indexed(path: Path) -> dict[str, str]:
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{path} has no weight_map.", hint=header.AGAIN)
    kind = BIN if path.name.startswith("pytorch") else SAFETENSORS
    for name, file in weight_map.items():
        if not (isinstance(file, str) and PurePath(file).name == file and file.endswith(kind)):
            raise ModelError(
                f"{path} assigns {name!r:.80} to {file!r:.80}, which is not the name of a {kind} file.",
                hint="An index names only files in its folder. Get the model again from a source you trust.",
            )
    there = {file.name for file in path.parent.iterdir() if file.exists()} & {*weight_map.values()}
    if missing := sorted(set(weight_map.values()) - there):
        lacks = f"{path.parent} lacks {', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}"
        counts = f"its index names {len(set(weight_map.values()))} files, but {len(there)} are there"
        raise ModelError(f"{lacks}: {counts}.", hint="Get the missing files again.")
    return weight_map


def _cut(tensor: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    import torch

    row = tensor[0].numel() if len(tensor.shape) > 1 and len(tensor) else 0
    if row and not start % row and not stop % row:
        return tensor[start // row : stop // row].clone(memory_format=torch.contiguous_format).reshape(-1)
    return tensor.reshape(-1)[start:stop].clone()


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items of an iterator in order, while a thread produces the next two items."""
    end: Any = object()
    thread = ThreadPoolExecutor(1)
    try:
        coming = deque(thread.submit(next, items, end) for _ in range(2))
        while (item := coming.popleft().result()) is not end:
            coming.append(thread.submit(next, items, end))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)


def fingerprint(checkpoint: Checkpoint) -> str:
    """Return the SHA-256 of the names, dtypes and shapes of all tensors, and of samples of each tensor.

    A change of a few bytes may not change the fingerprint.
    """
    digest = hashlib.sha256()
    for name in sorted(checkpoint.tensors):
        tensor = checkpoint.tensors[name]
        digest.update(f"{name}\0{tensor.dtype}\0{tensor.shape}\0".encode())
        # Evenly spread samples, by the index of their first element.
        last = max(tensor.count - SAMPLE, 0)
        for start in sorted({last * i // (SAMPLES - 1) for i in range(SAMPLES)}):
            digest.update(raw_bytes(checkpoint.read(name, start, min(start + SAMPLE, tensor.count))))
    return digest.hexdigest()


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the manifest's entry for an input: path, sizes, dtypes, fingerprint and files."""
    files = {file: (checkpoint.folder / file).stat() for file in checkpoint.files}
    return {
        "path": str(checkpoint.path),
        "tensors": len(checkpoint.tensors),
        "bytes": checkpoint.size,
        "dtypes": dtypes_of(checkpoint),
        "fingerprint": fingerprint(checkpoint),
        # The modification time, in nanoseconds, reveals that a file was replaced.
        "files": {file: [info.st_size, info.st_mtime_ns] for file, info in files.items()},
    }


def dtypes_of(checkpoint: Checkpoint) -> str:
    """Return the distinct dtypes of all tensors, sorted and separated by spaces."""
    return " ".join(sorted({tensor.dtype for tensor in checkpoint.tensors.values()}))


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a tensor. A contiguous tensor is not copied."""
    import torch

    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
