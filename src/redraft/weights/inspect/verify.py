"""Verifies a checkpoint or a GGUF file, and lists all its faults.

All files exist, are valid and complete; index and headers agree; no value is NaN or infinite; the checksums
match the manifest, if redraft made it; configuration, tensors, tokenizer and adapter fit each other (see
`fits`). Every byte is read once, in pieces of 8 MiB. The quality of the model is not checked, and a change to
both a file and its manifest goes unnoticed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from redraft.counting import counted
from redraft.errors import ModelError
from redraft.files import inside, model_files
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
from redraft.weights.delta import recorded_recipe
from redraft.weights.folder import ADAPTER
from redraft.weights.gguf.reader import is_gguf
from redraft.weights.header import NotHandled
from redraft.weights.inspect.facts import one_line
from redraft.weights.inspect.fits import adapter_faults, check_sentencepiece, check_tokenizer, model_faults
from redraft.weights.inspect.verify_gguf import verify_gguf
from redraft.weights.losses import not_finite
from redraft.weights.output import BY_DEFAULT, Progress, sha256_of
from redraft.weights.replace import MANIFEST

SHOWN = 8  # faults of one kind that are listed. The others are counted.


@dataclass
class Verdict:
    """The results of a verification.

    Attributes:
        findings: The faults, one per line.
        notes: Parts that could not be checked, one per line.
        size: Bytes of the tensors.
        checksums: The number of files that match the manifest's checksum.
    """

    path: Path
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    tensors: int = 0
    size: int = 0
    checksums: int = 0

    @property
    def sound(self) -> bool:
        """Whether there are no faults. Otherwise the exit status is 1."""
        return not self.findings

    def lines(self) -> list[str]:
        """The report as text."""
        looked = (
            f"{counted(self.files, 'file')}, {counted(self.tensors, 'tensor')}, {self.size / 1e6:,.2f} MB"
        )
        sums = (
            f"{counted(self.checksums, 'checksum')} as in the manifest" if self.checksums else "no checksums"
        )
        verdict = counted(len(self.findings), "fault") if self.findings else "sound"
        last = f"{self.path}: {verdict} ({looked}; {sums})"
        return [one_line(line) for line in (*self.findings, *self.notes, last)]

    def add(self, faults: list[str], kind: str) -> None:
        """Add faults of one kind, and count those beyond `SHOWN`."""
        self.findings += faults[:SHOWN]
        if len(faults) > SHOWN:
            self.findings.append(f"… and {len(faults) - SHOWN:,} more {kind}")

    @contextmanager
    def check(self, what: str) -> Iterator[list[str]]:
        """Collect faults that a check finds, and the error that ends it. Notes call its subject `what`."""
        found: list[str] = []
        try:
            yield found
        except NotHandled as error:
            self.notes.append(f"{what} was not checked: {error.message}")
        except ModelError as error:
            found.append(error.message)
        self.add([fault for fault in found if fault not in self.findings], "of that kind")


def verify(path: Path, *, allow_pickle: bool = False, progress: Progress = BY_DEFAULT.progress) -> Verdict:
    """Verify a folder, a single file of weights, or a GGUF file. `allow_pickle` reads `.bin` files too."""
    if is_gguf(path):
        report = Verdict(path)
        verify_gguf(path, report, progress)
        _compare(report, path.parent, _noted(path), {})
        return report
    return _verify_checkpoint(path, allow_pickle=allow_pickle, progress=progress)


def _verify_checkpoint(path: Path, *, allow_pickle: bool, progress: Progress) -> Verdict:
    report = Verdict(path)
    folder = path if path.is_dir() else path.parent
    weight_map = _index(path, report)
    files = sorted(set(weight_map.values()) or find_files(path).values())
    parts = list(_parts(folder, files, report, allow_pickle=allow_pickle))
    noted = _noted(path)
    sums = dict(_look(part, noted, report, progress) for part in parts)
    report.notes += [] if report.tensors else ["no tensors were found"]
    _check_names(report, weight_map, parts)
    if path.is_dir():
        unreadable = [fault for fault in _unreadable(folder) if fault not in report.findings]
        report.add(unreadable, "cannot be read")
        if len(parts) == len(files):
            _check_fit(report, path, allow_pickle=allow_pickle)
    _compare(report, folder, noted, sums)
    return report


def _check_fit(report: Verdict, path: Path, *, allow_pickle: bool) -> None:
    """Run the checks of the conversions on a folder whose files can all be read."""
    try:
        whole = open_checkpoint(path, allow_pickle=allow_pickle)
    except ModelError as error:
        report.findings += [] if report.findings else [error.message]
        return
    if whole.files[0].startswith(ADAPTER):
        with report.check("the adapter") as found:
            found.extend(adapter_faults(path, allow_pickle=allow_pickle))
        return
    with report.check("whether the tensors fit config.json") as found:
        found.extend(model_faults(whole))
    with report.check("the delta"):
        recorded_recipe(whole)
    with report.check("tokenizer.model"):
        check_sentencepiece(path)
    with report.check("the tokenizer"):
        check_tokenizer(whole)


def _unreadable(folder: Path) -> list[str]:
    """Return the faults of the small files beside the weights: links out of the folder, and invalid JSON."""
    faults = []
    for path in model_files(folder):
        try:
            inside(path)
            if path.suffix == ".json":
                read_json(path)
        except ModelError as error:
            faults.append(error.message)
    return faults


def _index(path: Path, report: Verdict) -> dict[str, str]:
    """Return the file of each tensor by the index. Invalid entries are reported and left out."""
    index = next((path / name for name in INDEXES if (path / name).exists()), None)
    if index is None:
        return {}
    weight_map, odd = read_index(index)
    report.add(odd, "are in files that are not beside the index")
    return weight_map


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
    wanted = file in noted and file.endswith(SAFETENSORS)
    digest = hashlib.sha256(_head(part)) if wanted else None
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


def _head(part: Checkpoint) -> bytes:
    """Return the bytes before the first tensor. The tensors fill the rest of the file, as was checked."""
    (file,) = part.files
    path = part.folder / file
    with path.open("rb") as opened:
        return opened.read(path.stat().st_size - part.size)


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
    if not isinstance(files, dict):
        return {}
    return {
        name: each for name, each in files.items() if PurePath(name).name == name and isinstance(each, dict)
    }


def _compare(report: Verdict, folder: Path, noted: Mapping[str, Any], sums: Mapping[str, str | None]) -> None:
    """Check the files against the manifest, and read those that were not read yet."""
    here = _here(folder)
    for name, note in noted.items():
        path = folder / name
        if _leads_out(path):
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


def _leads_out(path: Path) -> bool:
    try:
        inside(path)
    except ModelError:
        return True
    return False
