"""Verify a checkpoint or a GGUF file, and list all faults.

An input is sound if all files are complete, index and headers agree, no value is NaN or infinite, and
checksums match the manifest, if there is a manifest. The values of GGUF files are not read: redraft checks
them while writing, and llama.cpp checks them with `--check-tensors`. The conversions check whether tensors,
tokenizer, configuration and base fit together. A change to both a file and the manifest goes unnoticed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from redraft.errors import ModelError
from redraft.jobs.counting import counted, size_in_words
from redraft.jobs.files import inside, model_files, sha256_of
from redraft.weights.checkpoint import Checkpoint, ahead, open_checkpoint, read_json
from redraft.weights.gguf.reader import adapter_faults, is_gguf, read_header
from redraft.weights.info import one_line
from redraft.weights.losses import not_finite
from redraft.weights.output import BY_DEFAULT, Progress
from redraft.weights.replace import MANIFEST

SHOWN = 8  # faults of one kind that are listed. The others are counted.


@dataclass
class Verdict:
    """The result of a verification."""

    path: Path
    findings: list[str] = field(default_factory=list)  # the faults, one per line
    files: int = 0
    tensors: int = 0
    size: int = 0  # bytes of the files with tensors
    checksums: int = 0  # the number of files that match the manifest's checksum

    @property
    def sound(self) -> bool:
        """Whether no fault was found."""
        return not self.findings

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        verdict = counted(len(self.findings), "fault") if self.findings else "sound"
        read = f"{counted(self.files, 'file')}, {counted(self.tensors, 'tensor')}"
        sums = f"{counted(self.checksums, 'checksum')} verified"
        found = f"{read}, {size_in_words(self.size)}; {sums if self.checksums else 'no checksums'}"
        return [one_line(line) for line in (*self.findings, f"{self.path}: {verdict} ({found})")]

    def add(self, faults: list[str], kind: str) -> None:
        """Add the first `SHOWN` faults of one kind to the findings, and the number of remaining faults."""
        self.findings += faults[:SHOWN]
        if len(faults) > SHOWN:
            self.findings.append(f"… and {len(faults) - SHOWN:,} more {kind}")


def verify(path: Path, *, allow_pickle: bool = False, progress: Progress = BY_DEFAULT.progress) -> Verdict:
    """Verify a folder, a file of weights, or a GGUF file. Reading `.bin` files needs `allow_pickle`."""
    report = Verdict(path)
    folder = path if path.is_dir() else path.parent
    try:
        if is_gguf(path):
            header = read_header(path, whole=True)
            report.files, report.tensors = 1, len(header.tensors)
            report.size = path.stat().st_size
            if header.text("general.type") == "adapter":
                report.add(
                    [f"{path} is damaged: {fault}" for fault in adapter_faults(header)], "of that kind"
                )
        else:
            _look(open_checkpoint(path, allow_pickle=allow_pickle), report, progress)
    except ModelError as error:
        if not path.exists():
            raise
        report.findings.append(error.message)
    if path.is_dir():
        faults = []
        for file in model_files(folder):
            try:
                inside(file)
                if file.suffix == ".json":
                    read_json(file)
            except ModelError as error:
                faults.append(error.message)
        report.add([fault for fault in faults if fault not in report.findings], "that cannot be read")
    _compare(report, folder, _noted(path))
    return report


def _look(checkpoint: Checkpoint, report: Verdict, progress: Progress) -> None:
    odd: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, values in ahead(
        (each, checkpoint.read(each, *cut)) for each in checkpoint.tensors for cut in checkpoint.chunks(each)
    ):
        for place, count in enumerate(not_finite(values)):
            if count:
                odd[name][place] += count
        progress(values.nbytes)
    lines = [
        f"{checkpoint.tensors[name].file}: {name!r:.80} has {nans:,} NaN and {infinite:,} infinite "
        f"among {checkpoint.tensors[name].count:,} values"
        for name, (nans, infinite) in odd.items()
    ]
    report.add(lines, "with NaN or infinite values")
    report.files, report.tensors = len(checkpoint.files), len(checkpoint.tensors)
    report.size = sum((checkpoint.folder / file).stat().st_size for file in checkpoint.files)


def _noted(path: Path) -> dict[str, Any]:
    if path.is_dir():
        return _files_of(path / MANIFEST)
    beside = _files_of(path.with_name(f"{path.name}.{MANIFEST}")) or _files_of(path.parent / MANIFEST)
    return {path.name: beside[path.name]} if path.name in beside else {}


def _files_of(manifest: Path) -> dict[str, Any]:
    files = read_json(manifest).get("files")
    entries = files.items() if isinstance(files, dict) else ()
    return {name: each for name, each in entries if PurePath(name).name == name and isinstance(each, dict)}


def _compare(report: Verdict, folder: Path, noted: Mapping[str, Any]) -> None:
    here = {path.name for path in folder.iterdir() if path.is_file()}  # the manifest's names are untrusted
    find = report.findings.append
    for name, note in noted.items():
        path = folder / name
        try:
            inside(path)
        except ModelError:
            continue  # already reported
        if name not in here:
            find(f"{name!r:.80} is missing, but the manifest names it")
        elif (size := path.stat().st_size) != note.get("size"):
            find(f"{name!r:.80} has {size:,} bytes, but the manifest says {note.get('size')!r:.20}")
        elif sha256_of(path) != note.get("sha256"):
            find(f"{name!r:.80} has changed since it was made: its SHA-256 differs from the manifest's")
        else:
            report.checksums += 1
