"""The file of votes, to which several voters and processes add at once. A vote is a review, one a line.

The file is open only while it is read or changed, under a lock beside it, and a vote is on the disk before
the next pair is shown. To undo a vote, the file is written aside without it and renamed.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from redraft.errors import OutputError, RecordError
from redraft.evaluation.judging.reviews import Review
from redraft.files import locked, replacing
from redraft.jobs.lines import LineFile, parse_line, read_lines
from redraft.jobs.provenance import Provenance, RunFile

Vote = dict[str, Any]  # a review as JSON values


class VoteStore:
    """The votes of all voters, in one file."""

    def __init__(self, path: Path, provenance: Provenance) -> None:
        """Open the file, or create it. A link is followed. Votes on other answers are an error."""
        LineFile(path).close()  # says what is wrong with the path
        self.path = path.resolve()
        with self._open() as (file, lines):
            run = RunFile(file.path, start_over="give the answers that were voted on")
            if lines:
                run.check(provenance)
            run.begin(provenance, resume=bool(lines))

    def of(self, voter: str) -> list[Vote]:
        """Return the votes of a voter, the last one last."""
        with self._open() as (_, lines):
            return [vote for vote in map(self._vote, lines) if vote["judge"] == voter]

    def counts(self) -> Counter[str]:
        """Return the number of votes of each voter."""
        with self._open() as (_, lines):
            return Counter(vote["judge"] for vote in map(self._vote, lines))

    def add(self, vote: Review) -> bool:
        """Add a vote. Return False if the voter has judged the pair before: that vote stands."""
        with self._open() as (file, lines):
            is_new = all(each["review_id"] != vote.review_id for each in map(self._vote, lines))
            if is_new:
                file.append(vote.to_json())
        return is_new

    def undo(self, voter: str) -> Vote | None:
        """Take a voter's last vote out of the file, and return it; None if there is none."""
        with self._open() as (_, lines):
            for place in reversed(range(len(lines))):
                vote = self._vote(lines[place])
                if vote["judge"] == voter:
                    mode = stat.S_IMODE(self.path.stat().st_mode)
                    with replacing(self.path) as aside:
                        if hasattr(os, "fchmod"):
                            os.fchmod(aside.fileno(), mode)
                        aside.write(b"".join(lines[:place] + lines[place + 1 :]))
                    return vote
        return None

    @contextmanager
    def _open(self) -> Iterator[tuple[LineFile, list[bytes]]]:
        """Lock the file, and yield it with its lines. What a killed process left half written is cut off."""
        beside = self.path.with_name(f"{self.path.name}.lock")
        try:
            if not self.path.exists():
                raise OutputError(f"{self.path} is gone.", hint="Put it back, or run the same command again.")
            with locked(beside):
                try:
                    with closing(LineFile(self.path)) as file:
                        yield file, _whole(file)
                finally:
                    beside.unlink()
        except OSError as error:
            raise OutputError(
                f"cannot change {self.path}: {error.strerror}.",
                hint="Its folder must be there, have room, and let you write.",
            ) from None

    def _vote(self, line: bytes) -> Vote:
        vote = parse_line(line)
        if vote is None or not vote.keys() >= {"review_id", "judge", "text"}:
            raise RecordError(
                f"{self.path}: has a line that is not a vote: {line[:60].decode(errors='replace')!r}.",
                hint=f"Correct or remove the line, or move {self.path} away.",
            )
        return vote


def _whole(file: LineFile) -> list[bytes]:
    lines = list(read_lines(file.path))
    if lines and not lines[-1].endswith(b"\n"):
        if parse_line(lines[-1] + b"\n") is None:
            file.cut(file.size - len(lines.pop()))
        else:
            file.append("")
            lines[-1] += b"\n"
    return [line for line in lines if line.strip()]
