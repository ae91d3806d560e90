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
from redraft.generate.chains import ChainCounts
from redraft.generate.options import ChainFlags
from redraft.jobs.causes import in_words
from redraft.jobs.ledger import failures
from redraft.jobs.provenance import RunFile
from redraft.options import options_of
from redraft.revision.words import Summary

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


@dataclass(frozen=True)
class Card:
    """What a card is made of."""

    out: Path
    record: Mapping[str, Any]  # the content of `OUT.run.json`
    counts: ChainCounts
    dropped: Mapping[str, Summary]  # the chains that were dropped, by reason (`chains.REASONS`)
    failed: Counter[str]  # failures by cause
    usual: Mapping[str, Any]  # settings of the verb that are not redraft's usual ones; they count as defaults
    of_run: Mapping[str, Any]  # settings of the last run that may differ between runs

    def text(self, licence: str) -> str:
        """Return the card. `licence` is the user's part."""
        first = "A model answered each record"
        if self._config.get("first"):
            first = "The first answer is the record's own"
        what_it_is = (
            f"Feedback chains, made with `redraft {self.record.get('command')}`. {first}. {self._judge()} "
            "judged it, and the model corrected it until it was accepted or a limit was reached. Each line "
            "is a chain: the prompt, and each answer with its feedback and verdict."
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

    def _judge(self) -> str:
        """Return who gave the verdicts, as the beginning of a sentence."""
        config, checks = self._config, self._config.get("check")
        if known := _JUDGES.get(str(config.get("verify"))):
            return f"{known}, with other checks," if checks else known
        if config.get("mode") == "native":
            return "The model itself"
        seen = ", which saw the record's gold answer," if config.get("gold") else ""
        if not checks:
            return f"A critic{seen}"
        critic = f" and a critic{seen}" if self._has_critic else ""
        return f"Checks ({', '.join(map(_code, checks))}){critic}"

    @property
    def _has_critic(self) -> bool:
        """Whether a critic was asked, as `revision.options.choose_mode` decides."""
        config = self._config
        mode = config.get("mode") or "auto"
        if config.get("verify") or mode not in ("auto", "prompted"):
            return False
        asked_for = mode == "prompted" or config.get("critic") or config.get("gold")
        return bool(asked_for) or not config.get("check")

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
        if self._has_critic:
            yield "critic", _code(config.get("critic") or writer)
        if config.get("judge"):
            yield "judge", _code(config["judge"])
        wording = config.get("prompts") or {}
        yield "wording", f"{_code(wording.get('name'))}, SHA-256 {_code(wording.get('sha256'))}"
        yield "seed", "none" if config.get("seed") is None else str(config["seed"])
        found = {**config, **self.of_run}.items()
        settings = (f"{name} {_code(value)}" for name, value in found if self._differs(name, value))
        yield "settings", ", ".join(settings) or "the defaults"
        versions = (
            f"{each.get('redraft')}{f', commit {_code(commit)}' if (commit := each.get('commit')) else ''}"
            for each in self._sessions
        )
        yield "redraft", "; ".join(dict.fromkeys(versions))

    def _differs(self, name: str, value: Any) -> bool:
        option = options_of(ChainFlags).get(name)
        usual = self.usual.get(name, option.default if option else None)
        if name in _TOLD_APART or value in (None, []):
            return False
        return value != usual and not (usual is None and value is False)

    def _content(self) -> Iterator[tuple[str, str]]:
        counts = self.counts
        yield "chains", f"{counts.chains:,}"
        each = f", {counts.revisions / counts.chains:.2f} a chain" if counts.chains else ""
        yield "corrections", f"{counts.revisions:,}{each}"
        texts = [("verdicts", in_words(counts.verdicts)), ("stopped", counts.stopped)]
        texts.append(("cleaned", in_words(counts.cleaned)))
        yield from ((name, text) for name, text in texts if text)
        yield "leaks", f"{counts.leaks}{self._dropped('leaks')}"
        refusals = counts.with_refusals if counts.refused else "none"
        yield "refusals", f"{refusals}{self._dropped('refusals')}"
        if counts.marked:
            yield "markers", counts.markers
        if counts.licences:
            yield "licences", _cell(counts.licences)
        failed = self.failed.total()
        yield "failed", f"{counted(failed, 'record')}: {in_words(self.failed)}" if failed else "none"

    def _dropped(self, reason: str) -> str:
        gone = self.dropped[reason].chains if reason in self.dropped else 0
        return f"; {counted(gone, 'more chain')} dropped for one" if gone else ""

    def _cost(self) -> Iterator[tuple[str, str]]:
        used, sessions = self.counts.usage, self._sessions
        told = [session for session in sessions if "ended" in session and "tokens" in session]
        tokens = f"{used.completion_tokens:,} new tokens, {used.prompt_tokens:,} in prompts"
        how = f"; {self.counts.estimated}" if used.estimated else ""
        money = f"{_money(used.cost_usd)}{self.counts.without_price}"
        yield "these chains", f"{tokens}, {money}{how}" if self.counts.chains else "none"
        killed = len(sessions) - len(told)
        yield "paid in all", self._paid(told, killed=bool(killed))
        read = datetime.fromisoformat
        time = sum((read(each["ended"]) - read(each["started"]) for each in told), timedelta())
        more = f"; {counted(killed, 'more run')} ended without saying what it took" if killed else ""
        yield "runs", f"{len(told):,}, {time} in all{more}"

    def _paid(self, told: list[dict[str, Any]], *, killed: bool) -> str:
        """Return what all runs paid: what they recorded, and never less than what the chains cost."""
        own = sum((gone.usage for gone in self.dropped.values()), self.counts.usage)
        tokens, usd = sum(session["tokens"] for session in told), sum(session["usd"] for session in told)
        lost = own.completion_tokens > tokens or round((own.cost_usd or 0.0) - usd, 6) > 0
        known = own.cost_usd is not None or usd
        most = max(tokens, own.completion_tokens)
        money = f", {_money(max(usd, own.cost_usd or 0.0) if known else None)}" if most or known else ""
        guessed = own.estimated or any(session.get("estimated") for session in told)
        how = " (estimated)" if guessed else ""
        paid = f"{most:,} new tokens{money}{how}"
        lacks = "; runs that were killed did not say what they paid" if killed else self.counts.without_price
        if lost and not killed:
            lacks += "; some of it was paid by runs that are not listed here"
        if lacks:
            return f"at least {paid}{lacks}"
        return f"{paid}; with failures, and without stored replies" if most or known else "nothing"


_JUDGES = {"number": "A check that knows the right number", "code": "A check with the record's unit tests"}


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)])


def _code(value: Any) -> str:
    """Return a value as code in a table: on one line, shortened."""
    text = _cell(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return f"`{text if len(text) <= _LONGEST else text[:_LONGEST] + '…'}`"


def _cell(text: str) -> str:
    """Return a text for a table: on one line."""
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")


def _money(usd: float | None) -> str:
    return "no price known" if usd is None else f"{usd:,.4f} USD"


def write_card(
    out: Path,
    counts: ChainCounts,
    dropped: Mapping[str, Summary],
    usual: Mapping[str, Any],
    of_run: Mapping[str, Any],
) -> None:
    """Write the card of an output whose run has ended. Arguments are as in `Card`.

    Raises:
        OutputError: It cannot be written, or a file that is no card has its name.
    """
    path = out.with_name(f"{out.name}.card.md")
    failed = Counter(str(record["cause"]) for record in failures(out).values())
    card = Card(out, RunFile(out).read() or {}, counts, dropped, failed, usual, of_run)
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
