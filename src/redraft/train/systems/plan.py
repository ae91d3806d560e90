"""Plan a run: find the finished stages, and the time, disk space and money for the remaining stages.

A record of each stage is kept in `DIR/.run`. A stage is done if the record is complete, and the options and
the content of all inputs are as recorded. To resume an unfinished output, the stage's verb runs again.

The recipe states hours, sizes and tokens. Costs are computed from the tokens and the price of the stage's
model: the option `price`, or the price in the config file. Local models cost nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from redraft.chain import Usage
from redraft.engines.base import Price, price_of
from redraft.engines.config import load_config
from redraft.engines.load import parse_reference
from redraft.errors import OutputError, UsageError
from redraft.jobs.provenance import ContentHashes, Provenance, RunFile, differences
from redraft.jobs.stores import here, url_of
from redraft.train.systems.recipe import Stage, System

_SHORT = 16  # digits of a hash in a record: 64 bits


class Kind(Enum):
    """Whether a stage is new, begun, changed or done. The value is the word that a plan shows."""

    NEW = "make"
    BEGUN = "resume"
    CHANGED = "make again"
    DONE = "done"


class State(NamedTuple):
    """A stage's `Kind`, and a remark: why the stage runs again, or "edited" for an edited output."""

    kind: Kind
    why: str = ""


class Ledger:
    """The records of a run's stages, stored in the run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hashes = ContentHashes(folder / ".run" / "hashes.json")

    def out(self, stage: Stage) -> Path:
        """Return the path of a stage's output."""
        return self.folder / stage.out

    def record(self, stage: Stage) -> RunFile:
        """Return the record file of a stage."""
        return RunFile(self.folder / ".run" / stage.name)

    def edited(self, stage: Stage) -> str:
        """Return ", then edited" if the user edited the stage's output and the run kept the edit; else ""."""
        return ", then edited" if (self.record(stage).read() or {}).get("edited") else ""

    def provenance(self, stage: Stage, read: Mapping[str, str | None]) -> Provenance:
        """Return a stage's verb, options, command and input hashes. `read` maps inputs' names to hashes."""
        content = {f"the content of {name}": (each or "")[:_SHORT] for name, each in read.items()}
        config = {**stage.options, **content}
        return Provenance(stage.verb, config | ({"command": stage.command} if stage.command else {}))

    def state(self, stage: Stage, made: Provenance) -> State:
        """Return the state of a stage. Raise `OutputError` if an output exists that no run made."""
        record, out = self.record(stage).read(), self.out(stage)
        if record is None:
            if out.exists():
                hint = "Move it away, or name another folder: -o DIR"
                raise OutputError(f"{out} exists, but no run made it.", hint=hint)
            return State(Kind.NEW)
        now = {"command": made.command, "config": json.loads(json.dumps(made.config))}
        if why := list(differences(record, now, None)):
            return State(Kind.CHANGED, "; ".join(why))
        if not record.get("made"):
            return State(Kind.BEGUN)
        if (found := self.hashes.of(out)) is None:
            return State(Kind.NEW, f"{out.name} is gone")
        return State(Kind.DONE, "" if found == record["made"] else "edited")

    def set_aside(self, stage: Stage) -> None:
        """Move an output and `OUT.*`, except paid replies (`.journal.db`), to `before`. Delete the record."""
        out = self.out(stage)
        aside = [each for each in out.parent.glob(f"{out.name}.*") if ".journal.db" not in each.name]
        if beside := [*out.parent.glob(out.name), *aside]:
            before = self.folder / "before"
            before.mkdir(exist_ok=True)
            number = sum(1 for _ in before.glob(f"{stage.name}-*")) + 1
            place = before / f"{stage.name}-{number}"
            place.mkdir()
            for each in beside:
                each.rename(place / each.name)
        self.record(stage).path.unlink(missing_ok=True)


def spent(record: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the sums of seconds, tokens and USD over all sessions in a stage's record."""
    total = {"seconds": 0.0, "tokens": 0.0, "usd": 0.0}
    for session in (record or {}).get("sessions", ()):
        for name in total:
            total[name] += session.get(name) or 0.0
    return total


FREE = Price(0.0, 0.0)


@dataclass(frozen=True)
class Row:
    """A stage of a plan."""

    stage: Stage
    state: State

    @property
    def usd(self) -> float | None:
        """The cost of the stage's tokens; None if a server's price is unknown."""
        needs, found = self.stage.needs, price(self.stage.options)
        if not needs.prompts + needs.new:
            return 0.0
        usage = Usage(prompt_tokens=int(needs.prompts * 1e6), completion_tokens=int(needs.new * 1e6))
        return None if found is None else found.cost(usage)


def price(options: Mapping[str, Any]) -> Price | None:
    """Return the price of a stage's model: `FREE` for a local model, None if unknown."""
    if options.get("price"):
        return price_of(options["price"])
    models = options.get("model") or "default"
    ref, config = models if isinstance(models, str) else models[0], load_config()
    if "{" in ref or (named := parse_reference(ref)).kind != "remote":
        return FREE
    return price_of(config.price_for(named.target, named.selects or ""))


@dataclass(frozen=True)
class Plan:
    """The stages of a run."""

    rows: Sequence[Row]

    @property
    def ahead(self) -> list[Row]:
        """The stages still to do."""
        return [row for row in self.rows if row.state.kind is not Kind.DONE]

    def lines(self) -> Iterator[str]:
        """Yield a line for each stage, and a line of totals."""
        width = max(len(row.stage.name) for row in self.rows)
        for row in self.rows:
            needs, done = row.stage.needs, row.state.kind is Kind.DONE
            figures = "" if done else _figures(needs.hours, needs.gb, row.usd)
            why = f" ({row.state.why})" if row.state.why else ""
            does = f"{row.state.kind.value}{why}: {row.stage.made}"
            yield f"{row.stage.name:{width}}  {does}  {figures}".rstrip()
        usd = [row.usd for row in self.ahead]
        total = None if None in usd else sum(each or 0.0 for each in usd)
        hours, gb = (sum(getattr(row.stage.needs, name) for row in self.ahead) for name in ("hours", "gb"))
        yield f"{'all':{width}}  {len(self.ahead)} of {len(self.rows)} stages  {_figures(hours, gb, total)}"

    def check(self, system: System, folder: Path) -> None:
        """Raise `UsageError` or `OutputError` for wrong options, missing files, or too little disk space."""
        for row in self.ahead:
            row.stage.check()
        names = dict.fromkeys(name for row in self.ahead for name in row.stage.reads if name in system.files)
        local = {name: here(file) for name in names if url_of(file := system.files[name].path) is None}
        if missing := [name for name, path in local.items() if not path.exists()]:
            wanted = (system.files[name] for name in missing)
            hints = [f"{file.get}: save it as {file.path}" for file in wanted if file.get]
            files = (f"{system.files[name].path} (the recipe's file {name})" for name in missing)
            hint = "\n".join(hints) or "Save each missing file at its path, or change the path under 'files'."
            raise UsageError(f"there is no {' and no '.join(files)}.", hint=hint)
        for name, path in local.items():
            if path.is_file() and not path.stat().st_size:
                raise UsageError(f"{path}, the file {name} of the recipe, is empty.")
        needed = sum(row.stage.needs.gb for row in self.ahead)
        there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
        free = shutil.disk_usage(there).free / 1e9
        if needed > free:
            message = f"the stages need {needed:,.1f} GB, but the disk of {folder} has {free:,.1f} GB free."
            raise OutputError(message, hint="Make room, or name a folder on another disk: -o DIR")


def _figures(hours: float, gb: float, usd: float | None) -> str:
    time = f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.0f} min" if hours else ""
    money = "price unknown" if usd is None else f"{usd:,.2f} USD" if usd else ""
    return ", ".join(filter(None, [time, f"{gb:,.1f} GB" if gb else "", money]))
