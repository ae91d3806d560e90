"""Verifies a checkpoint or a GGUF file, and lists all its faults.

All files exist, are valid and complete; index and headers agree; no value is NaN or infinite; the checksums
match the manifest, if redraft made it. Every byte is read once, in pieces of 8 MiB. Whether tensors,
configuration, tokenizer and base fit each other is left to the conversions. A change to both a file and its
manifest goes unnoticed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from redraft.errors import ModelError
from redraft.jobs.counting import counted
from redraft.jobs.files import inside, model_files, sha256_of
from redraft.weights.checkpoint import (
    INDEXES,
    SAFETENSORS,
    Checkpoint,
    ahead,
    find_files,
    open_checkpoint,
    raw_bytes,
    read_index,
    read_json,
)
from redraft.weights.gguf.quant import dequantize
from redraft.weights.gguf.reader import adapter_faults, is_gguf, read_header
from redraft.weights.header import AGAIN
from redraft.weights.info import one_line
from redraft.weights.losses import not_finite
from redraft.weights.output import BY_DEFAULT, Progress
from redraft.weights.replace import MANIFEST

SHOWN = 8  # faults of one kind that are listed. The others are counted.
PIECE = 2 << 20  # bytes to dequantise at a time. The result is up to eight times as large.

_WHOLE = {"I8", "I16", "I32", "I64"}
_WITHIN = {"Q8_1", "Q8_K"}
"""Types for llama.cpp's internal use, which no file should have and gguf does not dequantise."""


@dataclass
class Verdict:
    """The results of a verification."""

    path: Path
    findings: list[str] = field(default_factory=list)  # the faults, one per line
    notes: list[str] = field(default_factory=list)  # parts that could not be checked, one per line
    files: int = 0
    tensors: int = 0
    size: int = 0  # bytes of the tensors
    checksums: int = 0  # the number of files that match the manifest's checksum

    @property
    def sound(self) -> bool:
        """Whether there are no faults. Otherwise the exit status is 1."""
        return not self.findings

    def lines(self) -> list[str]:
        """The report as text."""
        verdict = counted(len(self.findings), "fault") if self.findings else "sound"
        looked = (
            f"{counted(self.files, 'file')}, {counted(self.tensors, 'tensor')}, {self.size / 1e6:,.2f} MB"
        )
        sums = (
            counted(self.checksums, "checksum") + " as in the manifest" if self.checksums else "no checksums"
        )
        last = f"{self.path}: {verdict} ({looked}; {sums})"
        return [one_line(line) for line in (*self.findings, *self.notes, last)]

    def add(self, faults: list[str], kind: str) -> None:
        """Add faults of one kind, and count those beyond `SHOWN`."""
        self.findings += faults[:SHOWN]
        if len(faults) > SHOWN:
            self.findings.append(f"… and {len(faults) - SHOWN:,} more {kind}")


def verify(path: Path, *, allow_pickle: bool = False, progress: Progress = BY_DEFAULT.progress) -> Verdict:
    """Verify a folder, a single file of weights, or a GGUF file. `allow_pickle` reads `.bin` files too."""
    report = Verdict(path)
    if is_gguf(path):
        _look_gguf(path, report, progress)
        _compare(report, path.parent, _noted(path), {})
        return report
    folder = path if path.is_dir() else path.parent
    weight_map: dict[str, str] = {}
    if index := next((path / name for name in INDEXES if (path / name).exists()), None):
        weight_map, odd = read_index(index)
        report.add(odd, "are in files that are not beside the index")
    files = sorted(set(weight_map.values()) or find_files(path).values())
    parts = list(_parts(folder, files, report, allow_pickle=allow_pickle))
    noted = _noted(path)
    sums = dict(_look(part, noted, report, progress) for part in parts)
    if not report.tensors:
        report.notes.append("no tensors were found")
    _check_names(report, weight_map, parts)
    if path.is_dir():
        _check_small_files(report, folder)
    _compare(report, folder, noted, sums)
    return report


def _check_small_files(report: Verdict, folder: Path) -> None:
    """Look for links out of the folder and invalid JSON among the files beside the weights."""
    faults = []
    for path in model_files(folder):
        try:
            inside(path)
            if path.suffix == ".json":
                read_json(path)
        except ModelError as error:
            faults.append(error.message)
    report.add([fault for fault in faults if fault not in report.findings], "cannot be read")


def _here(folder: Path) -> set[str]:
    """Return the names of all files in a folder. Not every untrusted text is a valid path to look up."""
    return {path.name for path in folder.iterdir() if path.is_file()}


def _parts(folder: Path, files: list[str], report: Verdict, *, allow_pickle: bool) -> Iterator[Checkpoint]:
    here = _here(folder)
    report.findings += [f"{file!r:.80} is missing: the index names it" for file in files if file not in here]
    for file in filter(here.__contains__, files):
        try:
            inside(folder / file)
            yield open_checkpoint(folder / file, allow_pickle=allow_pickle)
        except ModelError as error:
            report.findings.append(error.message)


def _look(
    part: Checkpoint, noted: Mapping[str, Any], report: Verdict, progress: Progress
) -> tuple[str, str | None]:
    """Read a whole file. Return its name, and its SHA-256 if the manifest has one to compare."""
    (file,) = part.files
    digest = None
    if file in noted and file.endswith(SAFETENSORS):
        path = part.folder / file
        with path.open("rb") as opened:  # the tensors fill the rest of the file, as was checked
            digest = hashlib.sha256(opened.read(path.stat().st_size - part.size))
    odd: Counter[tuple[str, str]] = Counter()
    for name, values in ahead(
        (each, part.read(each, *cut)) for each in part.tensors for cut in part.chunks(each)
    ):
        if digest:
            digest.update(raw_bytes(values))
        nans, infinite = not_finite(values)
        if nans or infinite:
            odd[name, "NaN"] += nans
            odd[name, "infinite"] += infinite
        progress(values.nbytes)
    lines = [
        f"{file}: {name!r:.80} has {odd[name, 'NaN']:,} NaN and {odd[name, 'infinite']:,} infinite "
        f"of {part.tensors[name].count:,} values"
        for name in dict.fromkeys(name for name, _ in odd)
    ]
    report.add(lines, "have NaN or infinite values")
    report.files += 1
    report.tensors += len(part.tensors)
    report.size += part.size
    return file, digest.hexdigest() if digest else None


def _check_names(report: Verdict, weight_map: Mapping[str, str], parts: list[Checkpoint]) -> None:
    """Check that each name occurs once, in the file that the index says."""
    found: dict[str, str] = {}
    read = {file for part in parts for file in part.files}
    twice = []
    for part in parts:
        for name, tensor in part.tensors.items():
            if name in found:
                twice.append(f"{name!r:.80} is in {found[name]} and in {tensor.file}")
            found.setdefault(name, tensor.file)
    report.add(twice, "occur twice")
    if not weight_map:
        return
    moved = [
        f"the index says that {name!r:.80} is in {file}, but it is "
        + (f"in {found[name]}" if name in found else "not there")
        for name, file in weight_map.items()
        if file in read and found.get(name) != file
    ]
    report.add(moved, "are not where the index says")
    unnamed = [
        f"{file} has {name!r:.80}, which the index does not name"
        for name, file in found.items()
        if name not in weight_map
    ]
    report.add(unnamed, "are not in the index")


def _noted(path: Path) -> dict[str, Any]:
    """Return the manifest's entries by file; for a single file, from beside it or from its folder."""
    if path.is_dir():
        return _files_of(path / MANIFEST)
    beside = _files_of(path.with_name(f"{path.name}.{MANIFEST}")) or _files_of(path.parent / MANIFEST)
    return {path.name: beside[path.name]} if path.name in beside else {}


def _files_of(manifest: Path) -> dict[str, Any]:
    files = read_json(manifest).get("files")
    entries = files.items() if isinstance(files, dict) else ()
    return {name: each for name, each in entries if PurePath(name).name == name and isinstance(each, dict)}


def _compare(report: Verdict, folder: Path, noted: Mapping[str, Any], sums: Mapping[str, str | None]) -> None:
    """Check the files against the manifest, and read those that were not read yet."""
    here = _here(folder)
    for name, note in noted.items():
        path = folder / name
        try:
            inside(path)
        except ModelError:
            continue  # already reported
        if name not in here:
            report.findings.append(f"{name!r:.80} is missing: the manifest names it")
        elif (size := path.stat().st_size) != note.get("size"):
            report.findings.append(
                f"{name!r:.80} has {size:,} bytes, but had {note.get('size')!r:.20} when it was made"
            )
        elif (sums.get(name) or sha256_of(path)) != note.get("sha256"):
            report.findings.append(
                f"{name!r:.80} was changed since it was made: its SHA-256 is not that of the manifest"
            )
        else:
            report.checksums += 1


def _look_gguf(path: Path, report: Verdict, progress: Progress) -> None:
    """Check header, metadata and tokenizer, and all values, dequantised piece by piece."""
    try:
        header = read_header(path, whole=True)
    except ModelError as error:
        report.findings.append(error.message)
        return
    report.files, report.tensors = 1, len(header.tensors)
    if header.text("general.type") == "adapter":
        report.add([f"{path} is damaged: {fault}" for fault in adapter_faults(header)], "of that kind")
    known = {int(kind): kind for kind in GGMLQuantizationType}
    with path.open("rb") as file:
        for tensor in header.tensors.values():
            report.size += tensor.size or 0
            kind = known.get(tensor.kind)
            if tensor.size is None or kind is None or kind.name in _WITHIN:
                report.notes.append(f"{tensor.name!r:.80} has the type {tensor.kind} and was not checked")
                continue
            file.seek(header.start + tensor.offset)
            nans, infinite = _not_finite(file, tensor.size, kind, progress)
            if nans or infinite:
                report.findings.append(
                    f"{tensor.name!r:.80} has {nans:,} NaN and {infinite:,} infinite values"
                )


def _not_finite(file: BinaryIO, left: int, kind: GGMLQuantizationType, progress: Progress) -> tuple[int, int]:
    """Return how many of the values in the next bytes are NaN, and how many are infinite."""
    block, width = GGML_QUANT_SIZES[kind]
    nans = infinite = 0
    while left:
        raw = np.frombuffer(file.read(min(left, PIECE // width * width)), np.uint8)
        if not len(raw):
            raise ModelError(f"{file.name} became shorter while it was read.", hint=AGAIN)
        if kind.name not in _WHOLE:
            values = raw.view(np.float64) if kind.name == "F64" else dequantize(raw, kind, block)
            if not np.isfinite(values).all():
                nans, infinite = nans + int(np.isnan(values).sum()), infinite + int(np.isinf(values).sum())
        left -= len(raw)
        progress(len(raw))
    return nans, infinite
