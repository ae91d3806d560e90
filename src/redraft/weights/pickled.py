"""Read `.bin` files, the pickled form of a checkpoint.

Torch's restricted loader maps the files into memory, but does not check the lengths of a zip file's records.
This module checks that the length of each record fits the record's tensors. The checksums (CRC-32) are not
verified: that would take a second pass over the weights, and torch can be configured to write no checksums.
Files written before torch 1.6 are not zip files, and are read whole.
"""

from __future__ import annotations

import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from redraft.errors import ModelError
from redraft.weights.header import AGAIN, TensorInfo, dtype_name, refuse_pointer, size_of_file

if TYPE_CHECKING:
    import torch

# Bytes of an element by the kind of storage (torch.storage, `_dtype_to_storage_type_map`).
# Every other storage, such as UntypedStorage, is counted in bytes.
_WIDTHS = {"DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8}
_WIDTHS |= {"IntStorage": 4, "ShortStorage": 2, "QInt32Storage": 4, "ComplexFloatStorage": 8}
_WIDTHS |= {"ComplexDoubleStorage": 16}


def read_pickled(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a `.bin` file by name. A zip file (torch 1.6 and later) is mapped into memory."""
    import torch

    try:
        if size_of_file(path) < 1024:
            refuse_pointer(path, path.read_bytes())
        if zipped := zipfile.is_zipfile(path):
            _check_records(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from None
    except pickle.UnpicklingError as error:
        told = str(error).splitlines()  # in a long message, these lines name what the loader refused
        lines = [line for line in told if "GLOBAL" in line or "Unsupported" in line]
        reason = (lines or told or ["it is not a valid pickle"])[0].strip()[:160].rstrip(".")
        message = f"{path} contains more than tensors and was not loaded: {reason}."
        hint = "No code in it was run. Get the model as safetensors, or from a source you trust."
        raise ModelError(message, hint=hint) from None
    except Exception as error:  # noqa: BLE001 - torch raises errors of any kind for damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path} is damaged: {reason[:120]}.", hint=AGAIN) from None
    named = loaded.items() if isinstance(loaded, dict) else ()
    tensors = {str(name): value.detach() for name, value in named if isinstance(value, torch.Tensor)}
    if not isinstance(loaded, dict) or (loaded and not tensors):
        hint = "Save weights with torch.save(model.state_dict(), FILE)."
        raise ModelError(f"{path} contains a {type(loaded).__name__} without named tensors.", hint=hint)
    return tensors


def tensor_info(path: Path, name: str, tensor: torch.Tensor) -> TensorInfo:
    """Return the description of a tensor in a `.bin` file."""
    import torch

    dtype = dtype_name(tensor.dtype)
    if any("\ud800" <= char <= "\udfff" for char in name):
        raise ModelError(f"{path}: a tensor's name has a lone surrogate: {name!a:.80}.", hint=AGAIN)
    what = f"{path}: the tensor {name!r:.80}"
    if dtype is None:
        raise ModelError(f"{what} has the dtype {tensor.dtype}, which is not supported.")
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise ModelError(f"{what} is sparse or has no values.")
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise ModelError(f"{what} claims more elements than the file contains.", hint=AGAIN)
    return TensorInfo(name, dtype, tuple(tensor.shape), path.name)


def _check_records(path: Path) -> None:
    sizes: dict[str, int] = {}
    with zipfile.ZipFile(path) as file:
        for record in file.infolist():
            if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
                message = f"{path} is compressed, so torch cannot map it."
                raise ModelError(message, hint="Save it with torch.save.")
            if record.flag_bits & 1:  # PKWARE, APPNOTE 4.4.4
                raise ModelError(f"{path} is encrypted.", hint="Unpack it with its password first.")
            if record.filename in sizes:
                raise ModelError(f"{path} contains the record {record.filename!r:.80} twice.", hint=AGAIN)
            sizes[record.filename] = record.file_size
            if record.header_offset + record.file_size > path.stat().st_size:
                raise ModelError(f"{path} ends inside the record {record.filename!r:.80}.", hint=AGAIN)
        data = next((name for name in sizes if name.endswith("/data.pkl")), "data.pkl")
        with file.open(data) as pickled_data:
            scan = _Scan(pickled_data)
            with suppress(Exception):  # torch's loader reports faults; the storages before one are recorded
                scan.load()
    for key, size in scan.storages.items():
        found = sizes.get(f"{data.removesuffix('.pkl')}/{key}")
        if found != size:
            what = f"the record data/{key:.40} has {found or 0:,} bytes, but its tensors need {size:,}"
            raise ModelError(f"{path} is damaged: {what}.", hint=AGAIN)


class _Inert:
    def __init__(self, *args: object, **named: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        """Ignore the value."""


# The standard library's unpickler in Python: the one in C allocates whatever size a file claims.
class _Scan(pickle._Unpickler):  # noqa: SLF001 - see above
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, int] = {}  # bytes by record name

    def find_class(self, module: str, name: str) -> Any:  # noqa: ARG002 - the standard library's signature
        """Return a class that does nothing. Its `width` is the bytes per element of a torch storage."""
        return type("_Inert", (_Inert,), {"width": _WIDTHS.get(name, 1)})

    def persistent_load(self, pid: Any) -> _Inert:
        """Record the size of a storage. `pid` is torch.save's ("storage", kind, record, device, elements)."""
        _, kind, key, _, count = pid
        self.storages[str(key)] = count * kind.width
        return _Inert()
