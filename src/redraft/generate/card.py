"""The card of an output, `OUT.card.md`: how the chains were made, what is in them, what they cost.

It is written at the end of each run, from `OUT.run.json` and the counts of the run. The part below `Licence`
is the user's: it is taken over from the card before. A file of that name that is no card is left alone. Texts
of the records are not quoted.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from redraft.counting import counted
from redraft.errors import OutputError
from redraft.files import replace_file
from redraft.generate.chains import ChainCounts
from redraft.jobs.causes import in_words
from redraft.jobs.ledger import failures
from redraft.jobs.provenance import RunFile

MARK = "<!-- Written by redraft at the end of each run, but for the part below Licence, which is yours. -->"
"""The first line of a card."""

_LICENCE = "## Licence"
_TO_FILL = (
    "Not stated: fill it in. The licence of the records and the terms of the teacher's provider may limit "
    "what the chains may be used for."
)
_LONGEST = 200  # characters of a setting
_TOLD_APART = {"model", "critic", "judge", "prompts", "seed", "gold", "first", "verify", "format", "model_id"}
"""Settings that have a row of their own, or that have only one value."""


@dataclass(frozen=True)
class Card:
    """What a card is made of.

    Attributes:
        out: The output.
        record: The content of `OUT.run.json`.
        counts: What is in the output.
        dropped: How many chains were dropped because they leak.
        failed: Failures by cause.
        usual: Settings of the verb that are not redraft's usual ones; they count as defaults.
    """

    out: Path
    record: Mapping[str, Any]
    counts: ChainCounts
    dropped: int
    failed: Counter[str]
    usual: Mapping[str, Any]

    def text(self, licence: str) -> str:
        """Return the card. `licence` is the user's part."""
        parts = [
            f"{MARK}\n# {self.out.name}",
            self._what_it_is(),
            f"## How it was made\n\n{_table(self._making())}",
            f"## What is in it\n\n{_table(self._content())}",
            f"## What it cost\n\n{_table(self._cost())}",
            f"{_LICENCE}\n\n{licence}",
        ]
        return "\n\n".join(parts) + "\n"

    def _what_it_is(self) -> str:
        config = self._config
        first = "A model answered each record"
        if config.get("first"):
            first = "The first answer is the record's own"
        judge = _JUDGES.get(str(config.get("verify")), "A critic")
        seen = ", which saw the record's gold answer," if config.get("gold") else ""
        return (
            f"Feedback chains, made with `redraft {self.record.get('command')}`. {first}. {judge}{seen} "
            "judged it, and the model corrected it until it was accepted or a limit was reached. Each line "
            "is a chain: the prompt, and each answer with its feedback and verdict."
        )

    @property
    def _config(self) -> Mapping[str, Any]:
        return self.record.get("config") or {}

    @property
    def _sessions(self) -> list[dict[str, Any]]:
        return self.record.get("sessions") or []

    def _making(self) -> Iterator[tuple[str, str]]:
        config, source = self._config, self.record.get("source") or {}
        if source:
            size = (
                f", {source['bytes']:,} bytes, SHA-256 {_code(source['sha256'])}"
                if "sha256" in source
                else ""
            )
            yield "records", f"{_code(source['path'])}{size}"
        writer = config.get("model") or "default"
        yield "writer", _code(writer)
        if not config.get("verify"):
            yield "critic", _code(config.get("critic") or writer)
        if config.get("judge"):
            yield "judge", _code(config["judge"])
        wording = config.get("prompts") or {}
        yield "wording", f"{_code(wording.get('name'))}, SHA-256 {_code(wording.get('sha256'))}"
        yield "seed", "none" if config.get("seed") is None else str(config["seed"])
        settings = (f"{name} {_code(value)}" for name, value in config.items() if self._differs(name, value))
        yield "settings", ", ".join(settings) or "the defaults"
        yield "redraft", "; ".join(dict.fromkeys(map(_version, self._sessions)))

    def _differs(self, name: str, value: Any) -> bool:
        return name not in _TOLD_APART and value not in (None, False, []) and value != self.usual.get(name)

    def _content(self) -> Iterator[tuple[str, str]]:
        counts = self.counts
        yield "chains", f"{counts.chains:,}"
        each = f", {counts.revisions / counts.chains:.2f} a chain" if counts.chains else ""
        yield "corrections", f"{counts.revisions:,}{each}"
        tables = {"verdicts": counts.verdicts, "stopped": counts.stops, "cleaned": counts.cleaned}
        yield from ((name, in_words(found)) for name, found in tables.items() if found)
        more = f"; {counted(self.dropped, 'more chain')} dropped for one" if self.dropped else ""
        yield "leaks", f"{counts.leaks}{more}"
        failed = self.failed.total()
        yield "failed", f"{counted(failed, 'record')}: {in_words(self.failed)}" if failed else "none"

    def _cost(self) -> Iterator[tuple[str, str]]:
        used, sessions = self.counts.usage, self._sessions
        told = [session for session in sessions if "ended" in session and "tokens" in session]
        tokens = f"{used.completion_tokens:,} new tokens, {used.prompt_tokens:,} in prompts"
        yield "these chains", f"{tokens}, {_money(used.cost_usd)}"
        paid = sum(session["usd"] for session in told)
        usd = None if used.cost_usd is None and not paid else paid
        tokens = f"{sum(session['tokens'] for session in told):,} new tokens"
        yield "paid in all", f"{tokens}, {_money(usd)}; with failures, and without stored replies"
        time = sum((_time(session) for session in told), timedelta())
        killed = len(sessions) - len(told)
        more = f"; {counted(killed, 'more run')} ended without saying what it took" if killed else ""
        yield "runs", f"{len(told):,}, {time} in all{more}"


_JUDGES = {"number": "A check that knows the right number", "code": "A check with the record's unit tests"}


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)])


def _code(value: Any) -> str:
    """Return a value as code in a table: on one line, shortened."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split()).replace("|", "\\|").replace("`", "'")
    return f"`{text if len(text) <= _LONGEST else text[:_LONGEST] + '…'}`"


def _money(usd: float | None) -> str:
    return "no price known" if usd is None else f"{usd:,.4f} USD"


def _version(session: Mapping[str, Any]) -> str:
    commit = session.get("commit")
    return f"{session.get('redraft')}{f', commit {_code(commit)}' if commit else ''}"


def _time(session: Mapping[str, Any]) -> timedelta:
    return datetime.fromisoformat(session["ended"]) - datetime.fromisoformat(session["started"])


def write_card(out: Path, counts: ChainCounts, dropped: int, usual: Mapping[str, Any]) -> None:
    """Write the card of an output whose run has ended.

    Args:
        out: The output.
        counts: What is in it.
        dropped: How many chains were dropped because they leak.
        usual: Settings that count as defaults.

    Raises:
        OutputError: It cannot be written, or a file that is no card has its name.
    """
    path = out.with_name(f"{out.name}.card.md")
    failed = Counter(str(record["cause"]) for record in failures(out).values())
    card = Card(out, RunFile(out).read() or {}, counts, dropped, failed, usual)
    try:
        replace_file(path, card.text(_licence_in(path)).encode("utf-8", "replace"))
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}.", hint="The chains are complete."
        ) from None


def _licence_in(path: Path) -> str:
    """Return the user's part of the card that is there, or what asks for it.

    Raises:
        OutputError: The file is no card.
    """
    if not os.path.lexists(path):
        return _TO_FILL
    before = path.read_text("utf-8", "replace") if path.is_file() and not path.is_symlink() else ""
    if not before.startswith(MARK):
        raise OutputError(
            f"{path} is not a card of redraft's, so it was left alone.",
            hint="Move it away, and run the same command again for a card. The chains are complete.",
        )
    return before.partition(f"\n{_LICENCE}\n")[2].strip() or _TO_FILL
