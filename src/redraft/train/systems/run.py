"""Run the remaining stages of a recipe, in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redraft.data.merge import part_files
from redraft.errors import OutputError, RedraftError, UsageError
from redraft.jobs.files import open_locked
from redraft.jobs.provenance import Provenance, RunFile
from redraft.jobs.signals import ended_by_sigterm
from redraft.jobs.stores import here
from redraft.train.systems.plan import Kind, Ledger, Plan, Row, State
from redraft.train.systems.recipe import Stage, System
from redraft.train.systems.verbs import filled, unbraced

Tell = Callable[[str], None]


class StageError(RedraftError):
    """A stage failed. `exit_status` is the exit status of the stage."""

    def __init__(self, message: str, status: int) -> None:
        mend = "fix the fault, then " if status == UsageError.exit_status else ""
        super().__init__(message, hint=f"Finished work is kept. To retry, {mend}type the same command again.")
        self.exit_status = status


@dataclass
class Run:
    """A run of a recipe in a folder."""

    system: System
    folder: Path
    until: str = ""  # the last stage to do; empty for all
    tell: Tell = print
    patience: float = 5.0  # seconds to wait for the stages of a killed run to end
    ledger: Ledger = field(init=False)
    _lock: int = field(default=-1, init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.folder)

    @property
    def wanted(self) -> list[Stage]:
        """All stages if `until` is empty. Otherwise, the stage `until` and all stages on which it depends."""
        names = self.system.upstream(self.system.stage(self.until).name) if self.until else self.system.stages
        return [each for each in self.system.stages.values() if each.name in names]

    def plan(self) -> Plan:
        """Return the plan of the stages."""
        again, rows = set[str](), list[Row]()
        for stage in self.wanted:
            state = self.ledger.state(stage, self._made(stage))
            if state.kind is Kind.DONE and not again.isdisjoint(stage.reads):
                state = State(Kind.CHANGED, "if its inputs change")
            again |= set() if state.kind is Kind.DONE else {stage.name}
            rows.append(Row(stage, state))
        return Plan(rows)

    def run(self) -> None:
        """Run the remaining stages, and write the page of the run.

        Raises:
            StageError: A stage failed. No later stage was started.
            OutputError: Another run is working in the folder, or the folder belongs to another recipe.
            RedraftError: `Plan.check` found a fault.
        """
        (self.folder / ".run").mkdir(parents=True, exist_ok=True)
        end = time.monotonic() + self.patience
        while (lock := open_locked(self.folder / ".run" / "lock")) is None:
            if time.monotonic() > end:
                hint = "Wait for it to end, or name another folder: -o DIR"
                raise OutputError(f"another run is using {self.folder}.", hint=hint)
            time.sleep(0.1)
        self._lock = lock
        try:
            path, start_over = self.folder / ".run" / "system", f"delete {self.folder} to start over"
            record = RunFile(path, elsewhere="to another folder with -o", start_over=start_over)
            made = Provenance("run", {"system": self.system.name, "small": self.system.small})
            if begun := record.path.exists():
                record.check(made)
            record.begin(made, resume=begun)
            plan = self.plan()
            plan.check(self.system, self.folder)
            if plan.ahead:
                with ended_by_sigterm():
                    for stage in self.wanted:
                        if self._begin(stage) and (status := self._do(stage)):
                            raise StageError(f"stage {stage.name} failed, with exit status {status}.", status)
            page = self.folder / "index.html"
            if plan.ahead or not page.exists():
                from redraft.train.systems.page import write_pages

                write_pages(self.system, self.ledger, self.plan())
            self.tell(f"all stages are done: {page}")
        finally:
            os.close(self._lock)

    def _made(self, stage: Stage) -> Provenance:
        named = {name: self._path(name) for name in stage.reads}
        named |= {str(path): path for path in stage.paths}
        if stage.verb == "data merge" and not stage.command:
            options = filled(stage.options, {name: str(path) for name, path in named.items()})
            with suppress(UsageError):  # a missing recipe is reported before the first stage
                named |= {str(path): path for path in part_files(options["recipe"], options.get("folder"))}
        return self.ledger.provenance(stage, {n: self.ledger.hashes.of(path) for n, path in named.items()})

    def _path(self, name: str) -> Path:
        if name in self.system.stages:
            return self.ledger.out(self.system.stages[name])
        return here(self.system.files[name].path)

    def _begin(self, stage: Stage) -> bool:
        state = self.ledger.state(stage, self._made(stage))
        if state.kind is Kind.DONE:
            if state.why:
                made = self.ledger.hashes.of(self.ledger.out(stage))
                self.ledger.record(stage).note(made=made, edited=True)
            self.tell(f"{stage.name}: done{self.ledger.edited(stage)}, {self.ledger.out(stage)}")
            return False
        if state.kind in (Kind.CHANGED, Kind.NEW):
            self.ledger.set_aside(stage)
        self.tell(f"{stage.name}: {state.kind.value}{f' ({state.why})' if state.why else ''}: {stage.verb}")
        return True

    def _do(self, stage: Stage) -> int:
        record, made = self.ledger.record(stage), self._made(stage)
        record.begin(made, resume=record.path.exists())
        found, stopped = self._child(stage)
        status = int(found.pop("status"))
        out = self.ledger.hashes.of(self.ledger.out(stage))
        if not status and out is None:
            self.tell(f"{stage.name}: the stage succeeded, but did not write {self.ledger.out(stage)}.")
            status = 1
        says = found.pop("says", "")
        record.end(**found)
        if stopped:
            raise stopped
        if not status:
            record.note(made=out, says=says)
            self.tell(f"{stage.name}: made in {found.get('seconds', 0):,.0f} s, {self.ledger.out(stage)}")
        return status

    def _child(self, stage: Stage) -> tuple[dict[str, Any], KeyboardInterrupt | None]:
        names = {name: str(self._path(name)) for name in stage.reads}
        out = self.ledger.out(stage)
        out.parent.mkdir(parents=True, exist_ok=True)
        options = unbraced(filled(stage.options, names))
        command = unbraced(filled(stage.command, {**names, "out": str(out)}))
        job = {"verb": stage.verb, "options": options, "command": command, "out": str(out)}
        words = [sys.executable, "-m", "redraft.train.systems.verbs", json.dumps(job)]
        pipe: Any = subprocess.PIPE
        how: Any = {"stdin": pipe, "stdout": pipe, "pass_fds": (self._lock,), "process_group": 0}
        stopped = None
        with subprocess.Popen(words, **how) as child:  # noqa: S603
            assert child.stdout  # noqa: S101  (a pipe)
            try:
                said = child.stdout.read()
            except KeyboardInterrupt as signalled:
                stopped = signalled
                child.send_signal(signal.SIGTERM)
                said = child.stdout.read()
            child.wait()  # closing its standard input earlier would kill it
        try:
            return json.loads(said), stopped
        except ValueError:
            return {"status": 3}, stopped  # the stage crashed, and has printed the reason
