"""Reads and writes `.bin` files, the pickled form of a checkpoint.

They are read by torch's restricted loader, and mapped rather than read. Mapping skips what torch checks of a
file that it reads: that each record of the zip is as long as the tensors need. So that is checked here. The
records' checksums (CRC-32) are not: it would take a second pass over the weights, and torch can be told to
write none. The form of torch before 1.6 is no zip and is read whole.
"""

from __future__ import annotations

import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from redraft.errors import ModelError
from redraft.files import sync
from redraft.weights.dtypes import dtype_name, torch_dtype
from redraft.weights.header import (
    AGAIN,
    TensorInfo,
    is_text,
    read_safetensors_header,
    refuse_pointer,
    size_of_file,
)

if TYPE_CHECKING:
    import torch

# Bytes of an element by the kind of storage (torch.storage, `_dtype_to_storage_type_map`).
# All others, such as UntypedStorage, are counted in bytes.
_WIDTHS = {"DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8}
_WIDTHS |= {"IntStorage": 4, "ShortStorage": 2, "QInt32Storage": 4, "ComplexFloatStorage": 8}
_WIDTHS |= {"ComplexDoubleStorage": 16}

_ENCRYPTED = 1
"""The bit of a zip record's flags that says so (PKWARE, APPNOTE 4.4.4)."""


def read_pickled(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a `.bin` file by name, mapped where it is a zip file, as torch 1.6 and later write it.

    Raises:
        ModelError: It is damaged, cannot be read, or holds more than tensors.
    """
    import torch

    try:
        if size_of_file(path) < 1024:
            refuse_pointer(path, path.read_bytes())
        zipped = zipfile.is_zipfile(path)
        if zipped:
            _check_records(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from None
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds more than tensors, and was not loaded: {_reason(error)}.",
            hint="Nothing in it was run. Get the model as safetensors, or from a source you trust.",
        ) from None
    except Exception as error:  # noqa: BLE001 - a damaged file leads torch into errors of any kind
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path} is damaged: {said[:120]}.", hint=AGAIN) from None
    tensors = _tensors_in(loaded)
    if not isinstance(loaded, dict) or (loaded and not tensors):
        raise ModelError(
            f"{path} holds a {type(loaded).__name__} without tensors by name.",
            hint="Weights are saved with torch.save(model.state_dict(), FILE).",
        )
    return tensors


def tensor_info(path: Path, name: str, tensor: torch.Tensor) -> TensorInfo:
    """What a checkpoint says of a tensor of a `.bin` file.

    Raises:
        ModelError: It is of a kind that is not handled, or has more elements than the file.
    """
    import torch

    dtype = dtype_name(tensor.dtype)
    if not is_text(name):
        raise ModelError(f"{path}: a tensor's name holds half of a character: {name!a:.80}.", hint=AGAIN)
    if dtype is None:
        raise ModelError(
            f"{path}: the tensor {name!r:.80} has the dtype {tensor.dtype}, which is not handled."
        )
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise ModelError(f"{path}: the tensor {name!r:.80} is sparse, or has no values.")
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise ModelError(
            f"{path}: the tensor {name!r:.80} claims more elements than the file holds.", hint=AGAIN
        )
    return TensorInfo(name, dtype, tuple(tensor.shape), path.name)


def _check_records(path: Path) -> None:
    """Check that every record of a zip file lies in it as it is, under a name of its own, as torch writes it.

    Raises:
        ModelError: One is compressed, encrypted, there twice, beyond the end, or not as long as it should be.
    """
    names = set()
    with zipfile.ZipFile(path) as file:
        for record in file.infolist():
            if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
                raise ModelError(f"{path} is compressed, and torch cannot map it.", hint=AGAIN)
            if record.flag_bits & _ENCRYPTED:
                raise ModelError(f"{path} is encrypted.", hint="Unpack it with its password first.")
            if record.filename in names:
                raise ModelError(f"{path} holds the record {record.filename!r:.80} twice.", hint=AGAIN)
            names.add(record.filename)
            if record.header_offset + record.file_size > path.stat().st_size:
                raise ModelError(f"{path} ends inside the record {record.filename!r:.80}.", hint=AGAIN)
        _check_storages(path, file)


def _check_storages(path: Path, file: zipfile.ZipFile) -> None:
    """Check that each record of numbers is as long as the pickle says.

    Raises:
        ModelError: One is not. Mapped, its numbers would go on with whatever comes behind it in the file.
    """
    sizes = {record.filename: record.file_size for record in file.infolist()}
    top = next((name for name in sizes if name.endswith("/data.pkl")), "data.pkl").removesuffix("data.pkl")
    with file.open(f"{top}data.pkl") as pickled_data:
        needed = _storages(pickled_data)
    for key, size in needed.items():
        found = sizes.get(f"{top}data/{key}")
        if found != size:
            raise ModelError(
                f"{path} is damaged: the record data/{key:.40} has {found or 0:,} bytes, and its tensors "
                f"need {size:,}.",
                hint=AGAIN,
            )


def _storages(file: IO[bytes]) -> dict[str, int]:
    """The name and the bytes of each storage that a pickle names. Nothing of the pickle is run.

    Of a pickle that cannot be read so, those before the fault: torch's loader then says what is wrong.
    """
    scan = _Scan(file)
    with suppress(Exception):
        scan.load()
    return scan.storages


class _Inert:
    """Stands for whatever a pickle makes, and does nothing."""

    def __init__(self, *args: object, **named: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        """As of a list."""


class _Scan(pickle._Unpickler):  # noqa: SLF001 - see below
    """Reads a pickle for the storages that it names, with nothing of what it makes.

    The standard library's unpickler in Python: the one in C makes room for whatever number a stranger says.

    Attributes:
        storages: Bytes by the name of the record.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:  # noqa: ARG002 - the standard library's signature
        """A class that does nothing; it has the element's bytes where it is one of torch's storages."""
        return type("_Inert", (_Inert,), {"width": _WIDTHS.get(name, 1)})

    def persistent_load(self, pid: Any) -> _Inert:
        """Notes `("storage", kind, record, device, elements)`: torch.serialization, `_save`."""
        _, kind, key, _, count = pid
        self.storages[str(key)] = count * kind.width
        return _Inert()


def _tensors_in(loaded: Any) -> dict[str, torch.Tensor]:
    import torch

    if not isinstance(loaded, dict):
        return {}
    return {str(name): each.detach() for name, each in loaded.items() if isinstance(each, torch.Tensor)}


def _reason(error: Exception) -> str:
    """What torch's loader refused, from its long message."""
    lines = [line for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line]
    return (lines or str(error).splitlines() or ["it is not a sound pickle"])[0].strip()[:160].rstrip(".")


def pickled(path: Path) -> Path:
    """Turns a safetensors file into a `.bin` beside it, and removes it.

    The tensors are mapped, not read: torch writes them from the file's own pages.

    Returns:
        The new file: the same name with `.bin` at its end.
    """
    import torch

    tensors = {each.name: _mapped(path, each) for each in read_safetensors_header(path).tensors}
    new = path.with_name(path.name + ".bin")
    torch.save(tensors, new)
    sync(new)
    path.unlink()
    return new


def _mapped(path: Path, tensor: TensorInfo) -> torch.Tensor:
    import numpy as np
    import torch

    if not tensor.count:
        return torch.empty(tensor.shape, dtype=torch_dtype(tensor.dtype))
    raw = np.memmap(path, dtype=np.uint8, mode="c", offset=tensor.offset, shape=(tensor.size,))
    return torch.from_numpy(raw).view(torch_dtype(tensor.dtype)).reshape(tensor.shape)
