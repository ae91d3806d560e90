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
from redraft.files import write_file
from redraft.generate import ACCEPT_SCORE, USUAL
from redraft.generate.chains import ChainCounts
from redraft.generate.options import ChainFlags
from redraft.jobs.causes import in_words
from redraft.jobs.ledger import failures
from redraft.jobs.provenance import RunFile
from redraft.options import options_of

MARK = "<!-- Written by redraft at the end of each run, but for the part below Licence, which is yours. -->"
"""The first line of a card."""

_LICENCE = "## Licence"
_TO_FILL = (
    "Not stated: fill it in. The licence of the records and the terms of the teacher's provider may limit "
    "what the chains may be used for."
)
_LONGEST = 200  # characters of a setting
_TOLD_APART = {"model", "critic", "judge", "prompts", "seed", "format", "model_id"}
"""Settings that have a row of their own, or that have only one value."""

_JUDGES = {"number": "a check that knows the right number", "code": "a check with the record's unit tests"}


@dataclass(frozen=True)
class Card:
    """What a card is made of."""

    out: Path
    record: Mapping[str, Any]  # the content of `OUT.run.json`
    counts: ChainCounts
    failed: Counter[str]  # failures by cause
    recipe: str  # the recipe of the last run; empty for none

    def text(self, licence: str) -> str:
        """Return the card. `licence` is the user's part."""
        what_it_is = (
            f"Feedback chains, made with `redraft {self.record.get('command')}`. Each line is a chain: the "
            "prompt, and each answer with its feedback and verdict, until one was accepted or a limit was "
            "reached."
        )
        parts = [
            f"{MARK}\n# {self.out.name}",
            what_it_is,
            f"## How it was made\n\n{_table(self._making())}",
            f"## What is in it\n\n{_table(self._content())}",
            f"## What it cost\n\n{_table(self._cost())}",
            f"{_LICENCE}\n\n{licence}",
        ]
        return "\n\n".join(parts) + "\n"

    @property
    def _config(self) -> Mapping[str, Any]:
        return self.record.get("config") or {}

    def _making(self) -> Iterator[tuple[str, str]]:
        config, source = self._config, self.record.get("source") or {}
        if source:
            sha256 = f", SHA-256 {_code(source['sha256'])}" if "sha256" in source else ""
            yield "records", f"{_code(source['path'])}{sha256}"
        yield "first answer", "the record's own" if config.get("first") else "of the writer"
        yield "writer", _code(config.get("model") or "default")
        yield "verdicts", self._judges()
        if config.get("judge"):
            yield "judge", _code(config["judge"])
        wording = config.get("prompts") or {}
        yield "wording", f"{_code(wording.get('name'))}, SHA-256 {_code(wording.get('sha256'))}"
        yield "seed", "none" if config.get("seed") is None else str(config["seed"])
        found = {**config, "recipe": self.recipe}.items()
        settings = (f"{name} {_code(value)}" for name, value in found if self._differs(name, value))
        yield "settings", ", ".join(settings) or "the defaults"
        sessions = self.record.get("sessions") or []
        versions = (f"{each.get('redraft')} {each.get('commit') or ''}".rstrip() for each in sessions)
        yield "redraft", "; ".join(dict.fromkeys(versions))

    def _judges(self) -> str:
        """Return who gave the verdicts. A critic does as `revision.options.choose_mode` decides."""
        config, mode = self._config, self._config.get("mode") or "auto"
        known = _JUDGES.get(str(config.get("verify")))
        checks = ", ".join(map(_code, config.get("check") or ()))
        judges = [known] if known else []
        judges += [f"checks: {checks}"] if checks else []
        asked = mode == "prompted" or config.get("critic") or config.get("gold") or not checks
        if not known and mode in ("auto", "prompted") and asked:
            seen = ", which saw the record's gold answer" if config.get("gold") else ""
            judges.append(f"critic {_code(config.get('critic') or config.get('model') or 'default')}{seen}")
        return "; ".join(judges) or "the model itself"

    def _differs(self, name: str, value: Any) -> bool:
        option = options_of(ChainFlags).get(name)
        usual = {**USUAL, "accept_score": ACCEPT_SCORE}.get(name, option.default if option else None)
        if name in _TOLD_APART or value in (None, [], ""):
            return False
        return value != usual and not (usual is None and value is False)

    def _content(self) -> Iterator[tuple[str, str]]:
        counts = self.counts
        yield "chains", f"{counts.chains:,}"
        each = f", {counts.revisions / counts.chains:.2f} a chain" if counts.chains else ""
        yield "corrections", f"{counts.revisions:,}{each}"
        found = [("verdicts", in_words(counts.verdicts)), ("stopped", counts.stopped), *counts.marks()]
        yield from ((name, _cell(text)) for name, text in found if text)
        failed = self.failed.total()
        yield "failed", f"{counted(failed, 'record')}: {in_words(self.failed)}" if failed else "none"

    def _cost(self) -> Iterator[tuple[str, str]]:
        used, sessions = self.counts.usage, self.record.get("sessions") or []
        how = f"; {self.counts.estimated}" if used.estimated else ""
        money = f"{_money(used.cost_usd)}{self.counts.without_price}"
        yield (
            "these chains",
            f"{used.completion_tokens:,} new tokens, {used.prompt_tokens:,} in prompts, {money}{how}",
        )
        told = [session for session in sessions if "ended" in session and "tokens" in session]
        lost = len(sessions) - len(told)
        tokens, usd = sum(session["tokens"] for session in told), sum(session["usd"] for session in told)
        how = " (estimated)" if any(session.get("estimated") for session in told) else ""
        least = "at least " if lost or used.completion_tokens > tokens else ""
        most, money = max(tokens, used.completion_tokens), _money(max(usd, used.cost_usd or 0.0) or None)
        yield "paid in all", f"{least}{most:,} new tokens, {money}{how}, with failures"
        read = datetime.fromisoformat
        time = sum((read(each["ended"]) - read(each["started"]) for each in told), timedelta())
        more = f"; {counted(lost, 'more run')} ended without saying what it took" if lost else ""
        yield "runs", f"{len(told):,}, {time} in all{more}"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)])


def _code(value: Any) -> str:
    """Return a value as code in a table: on one line, shortened."""
    text = _cell(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).replace("`", "'")
    return f"`{text if len(text) <= _LONGEST else text[:_LONGEST] + '…'}`"


def _cell(text: str) -> str:
    """Return a text for a table: on one line."""
    return " ".join(text.split()).replace("|", "\\|")


def _money(usd: float | None) -> str:
    return "no price known" if usd is None else f"{usd:,.4f} USD"


def write_card(out: Path, counts: ChainCounts, recipe: str) -> None:
    """Write the card of an output whose run has ended. Arguments are as in `Card`.

    Raises:
        OutputError: It cannot be written, or a file that is no card has its name.
    """
    path = out.with_name(f"{out.name}.card.md")
    failed = Counter(str(record["cause"]) for record in failures(out).values())
    card = Card(out, RunFile(out).read() or {}, counts, failed, recipe)
    hint = f"What is in {out} is safe. Make room, and run the same command again for a card."
    write_file(path, card.text(_licence_in(path)).encode("utf-8", "replace"), hint=hint)


def _licence_in(path: Path) -> str:
    """Return the user's part of the card that is there, or what asks for it."""
    if not os.path.lexists(path):
        return _TO_FILL
    before = path.read_text("utf-8", "replace") if path.is_file() and not path.is_symlink() else ""
    if not before.startswith(MARK):
        raise OutputError(
            f"{path} is not a card of redraft's, so it was left alone.",
            hint="Move it away, and run the same command again for a card. The chains are not touched.",
        )
    return before.partition(f"\n{_LICENCE}\n")[2].strip() or _TO_FILL
