"""Make the runs of `redraft diagnose --tasks`: each model answers each task, by strategy and seed.

    DIR/runs.json                         the models and tasks, by folder name
    DIR/tasks/add.jsonl                   copies of the task files that were answered
    DIR/runs/MODEL/TASK/seed-0/revise-2.jsonl  a run, in the format of `redraft eval`
    DIR/runs/MODEL/TASK/seed-0/pairs.reviews-2.jsonl  reviews of --judge, in the format of `redraft judge`
    DIR/table.json, index.html            the figures, and the page
    DIR/choice.json                       the recipe that --choose wrote, and hashes of the run files

The same command resumes stopped runs. A command with more models, tasks, ways or seeds adds to the folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from glob import escape
from itertools import product
from pathlib import Path
from typing import Any, Self

from redraft.chain import Chain, read_jsonl, write_jsonl
from redraft.chain.read.files import stem_of
from redraft.chain.read.records import ids_of, read_records
from redraft.engines.config import load_config
from redraft.engines.load import parse_reference
from redraft.errors import OutputError, UsageError, nearest
from redraft.evaluation.diagnosis.runs import Ended, StrategyRuns
from redraft.evaluation.diagnosis.strategies import NAMES
from redraft.evaluation.records import listed
from redraft.evaluation.tasks.tasks import UNSCORED, Task, asked, task_of
from redraft.jobs.files import write_file
from redraft.jobs.lines import parse_line, read_lines
from redraft.jobs.plugins import load_all, plugins
from redraft.revision.runs.plan import RunPlan
from redraft.revision.settings import Settings

WAYS = {{"plain": "one", "best-of": "best"}.get(kind, kind): kind for kind in NAMES}
"""Map names in the option `--ways` to kinds of strategies (`evaluation.diagnosis.strategies`)."""
ALWAYS = ("one", "revise")  # ways that always run. The others may spend as many tokens as revising does
RACED = "one,revise,best,steered"  # the default ways of --choose
DRAWN, EXERCISES = 50, 1  # default number of exercises of a shipped task; the seed that draws them
PLAN, RUNS = "runs.json", "runs"


@dataclass(frozen=True)
class TaskFile:
    """A task and the file with the task's records."""

    name: str  # used for its folder and in tables
    task: str  # the name of a `redraft.tasks` plugin
    source: Path | None  # None for a shipped task, whose exercises are drawn

    @classmethod
    def of(cls, text: str, *, judged: bool = False) -> Self:
        """Parse `TASK:FILE`, a shipped task, or a file of prompts, which need checks unless `judged`."""
        task, colon, file = text.partition(":")
        if colon and task in plugins("redraft.tasks"):
            return cls(stem_of(Path(file)), task, Path(file))
        drawn = _drawn()
        if text in drawn and not Path(text).exists():
            return cls(text, drawn[text][0], None)
        if not Path(text).is_file():
            forms = "a file of prompts with checks, TASK:FILE (such as gsm8k:test.jsonl) or one of these:"
            hint = f"Give {forms} {', '.join(drawn)}."
            raise UsageError(f"there is no task or file named {text!r:.80}.", hint=hint)
        return cls(stem_of(Path(text)), UNSCORED if judged else "checks", Path(text))

    def put(self, folder: Path, limit: int | None) -> Path:
        """Copy the task's file into a folder. Raise `OutputError` if lines of an answered file changed."""
        if self.source is None:
            file, drawn = folder / f"{self.name}.jsonl", _drawn()[self.name][1](limit or DRAWN, EXERCISES)
            if not file.exists() or len(list(read_jsonl(file))) < len(drawn):  # a longer draw only adds
                write_jsonl(file, drawn)
            return file
        file, now = folder / self.source.name, self.source.read_bytes()
        runs = (folder.parent / RUNS).glob(f"*/{escape(self.name)}/seed-*/*.jsonl")
        answered = file.exists() and any(run.stat().st_size for run in runs)
        if answered and not now.startswith(file.read_bytes()):  # a file that grew is accepted
            said = f"{self.source} has changed since it was answered: {file} is the earlier version."
            hint = f"Restore that version, or name a new folder. To keep replies, copy {folder.parent / RUNS}"
            raise OutputError(said, hint=f"{hint}/*/*/replies.db to the same paths in the new folder first.")
        write_file(file, now)
        return file


def _drawn() -> dict[str, tuple[str, Callable[[int, int], Sequence[Chain]]]]:
    tasks = load_all("redraft.tasks", Task).items()
    return {name: (task, draw) for task, kind in tasks for name, draw in kind.draws.items()}


@dataclass(frozen=True)
class Matrix:
    """All runs in a folder: models × tasks × strategies × seeds."""

    settings: Settings  # of `DiagnoseOptions`
    plan: RunPlan  # the plan of each run. `out` is the folder; the limits apply to all runs together
    models: Sequence[str]  # model references
    tasks: Sequence[TaskFile]
    ways: Sequence[str]  # keys of `WAYS`

    @classmethod
    def of(cls, folder: Path, settings: Settings) -> Self:
        """Return the runs that the settings describe."""
        told = settings.values
        models = _split(told.models or [settings.get("model") or "default"])
        judge = settings.get("judge") if told.choose and settings.judge_was_named else None
        plan = RunPlan.of(folder, settings)
        # Only some ways ask the judge or are steered. A message that each block repeats is printed once.
        settings = settings.over(judge=judge, steer=settings.get("steer") or False)
        settings = replace(settings, judge_was_named=False, tell=cache(settings.tell))
        tasks = [TaskFile.of(each, judged=bool(judge)) for each in _split(told.tasks)]
        ways = _split([settings.get("ways") or (RACED if told.choose else told.ways)])
        always = ALWAYS if not told.choose or "shuffled" in ways else ALWAYS[:1]  # shuffled uses revise
        ways = list(dict.fromkeys((*always, *ways)))
        return cls(settings, plan, models, tasks, ways)

    def runs(self, share: float | None = None) -> Iterator[tuple[str, StrategyRuns]]:
        """Yield the name and the runs of each pair of model and task. `share` is as in `run`."""
        for model, folder in folders(self.models).items():
            for task in self.tasks:
                runs = StrategyRuns(
                    self.settings.over(model=model),
                    task.put(self.plan.out / "tasks", self.settings.values.limit),
                    replace(self.plan, out=self.plan.out / RUNS / folder / task.name),
                    task.task,
                    tuple(WAYS[way] for way in self.ways),
                    share,
                )
                yield f"{model}, {task.name}", runs

    def run(self, share: float | None = None) -> Ended:
        """Make every run that is not finished. Call `prepare` first.

        Args:
            share: The fraction of each task's records to answer, drawn at random. None means all records.

        Raises:
            OutputError: The folder contains runs with other settings, or is in use.
        """
        ended = Ended(0, "", self.plan.limits)
        for name, runs in self.runs(share):
            if not self.plan.quiet and share is None:
                self.plan.say(f"{name}: at most one run for each way, number of answers and seed")
            try:
                ended = runs.run(ended)
            except OutputError as error:
                if "to start over" in (error.hint or ""):  # all runs are one output
                    error.hint = f"Name another folder, or delete {self.plan.out} to start over."
                raise
            if ended.reached:
                break
        return ended

    def prepare(self, *, run_code: bool) -> int:
        """Check settings and tasks, write the file `PLAN`, and return the number of prompts."""
        if unknown := [way for way in self.ways if way not in WAYS]:
            meant = {kind: way for way, kind in WAYS.items()}.get(unknown[0], unknown[0])
            hint = f"{nearest(meant, WAYS)} Ways: {', '.join(WAYS)}".strip()
            raise UsageError(f"{unknown[0]!r:.40} is not a value of --ways.", hint=hint)
        _check_options(self.settings, self.models)
        names = [task.name for task in self.tasks]
        if twice := {name for name in names if names.count(name) > 1}:
            raise UsageError(f"two tasks are called {twice.pop()!r}.", hint="Rename one of the files.")
        if self.plan.store:
            raise UsageError(f"{self.plan.store.url} is not a folder.", hint="Give a folder on this machine.")
        folder = self.plan.out
        if folder.is_file():
            raise UsageError(f"{folder} is a file, not a folder.", hint="Give a folder for the runs.")
        for task in self.tasks:
            ask = task_of(task.task, run_code=run_code)
            if task.task == "checks":
                ask = replace(ask, has=f"{ask.has}. Without checks, use --choose with --judge MODEL")
            if task.source and not sum(1 for _ in asked(ask, read_records(task.source))):
                raise UsageError(f"{task.source} has no record.", hint="Give a prompt on each line.")
        before, choosing = read_plan(folder), bool(self.settings.values.choose)
        if before["tasks"] and before.get("choosing", False) != choosing:
            said = f"--choose changes the order of prompts, and {folder} has runs with{'out' * choosing} it."
            raise OutputError(said, hint="Name another folder.")
        self._check_limit(None if choosing else self.settings.values.limit)
        (folder / "tasks").mkdir(parents=True, exist_ok=True)
        made = {runs.plan.out.name: runs for _, runs in self.runs(1 if choosing else None)}
        if self.settings.get("ways") and (votes := {"vote", "early"}.intersection(self.ways)):
            self._check_votes(votes, made, 3 + choosing)
        models = {name: model for model, name in folders(self.models).items()}
        named = {name: {"task": runs.task, "file": runs.source.name} for name, runs in made.items()}
        told = {"models": before["models"] | models, "tasks": before["tasks"] | named}
        text = json.dumps({"version": 1, "choosing": choosing, **told}, indent=1)
        write_file(folder / PLAN, f"{text}\n".encode())
        return sum(len(runs.records) for runs in made.values())

    def _check_limit(self, limit: int | None) -> None:
        for folder, task in product(folders(self.models).values(), self.tasks):
            runs = self.plan.out / RUNS / folder / task.name
            files = (file for file in runs.glob("seed-*/*.jsonl") if "." not in file.stem)
            made = {str(each.get("id")) for f in files for each in map(parse_line, read_lines(f)) if each}
            source = task.source or self.plan.out / "tasks" / f"{task.name}.jsonl"
            ids = ids_of(source) if limit and made and source.exists() else ()
            last = max((number for number, name in enumerate(ids, 1) if name in made), default=0)
            if limit and last > limit:
                said = f"{runs} has an answer to prompt {last}, but --limit is {limit}."
                raise UsageError(said, hint=f"Set --limit {last} or more, or name another folder.")

    def _check_votes(self, votes: set[str], made: Mapping[str, StrategyRuns], least: int) -> None:
        lacking = [f"{listed(runs.voteless, 5)} in {name}" for name, runs in made.items() if runs.voteless]
        why = f"Votes need checks of numbers or short answers. These prompts have none: {'; '.join(lacking)}."
        if lost := ", ".join(sorted(votes - {way.kind for runs in made.values() for way in runs.strategies})):
            hint = f"{why} Add checks." if len(lacking) == len(made) else f"Give --samples {least} or more."
            raise UsageError("there are no votes to count.", hint=f"{hint} Or give --ways without {lost}.")
        if lacking and not self.plan.quiet:
            self.settings.tell(why)


def _split(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(part.strip() for text in texts for part in text.split(",") if part.strip()))


def folders(models: Sequence[str]) -> dict[str, str]:
    """Map models to folder names. Raise `UsageError` if two models would share a folder."""
    found = {model: re.sub(r"[^\w.+-]+", "-", model).strip("-.") for model in models}
    if len({*found.values()}) < len(found):
        raise UsageError(f"two models would share a folder: {', '.join(found)}.", hint="Rename one.")
    return found


def read_plan(folder: Path) -> dict[str, Any]:
    """Return the models and tasks of a folder, by name. Raise `OutputError` if the file `PLAN` is damaged."""
    file, none = folder / PLAN, dict[str, Any](models={}, tasks={})
    if found := stored(file, *none) if file.exists() else none:
        return found
    raise OutputError(f"{file} cannot be read.", hint="Restore it, or name another folder.")


def stored(file: Path, *names: str) -> dict[str, Any] | None:
    """Return a file's JSON object; None if the file is unreadable or a field in `names` is not an object."""
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
        return found if all(isinstance(found[name], dict) for name in names) else None
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        return None


def _check_options(settings: Settings, models: Sequence[str]) -> None:
    for name in ("drafts", "min_revisions"):
        if settings.get(name) is not None:
            fault = f"--{name.replace('_', '-')} cannot be set: each of --ways has its own number of answers."
            raise UsageError(fault, hint="Set --samples or --max-revisions.")
    if not settings.get("max_revisions"):
        raise UsageError("--max-revisions is 0, so no answer would be revised.", hint="Set 1 or more.")
    if (mode := settings.get("mode")) in ("best-of", "repair"):
        raise UsageError(f"--mode {mode} cannot be set here.", hint=f"--ways {mode.removesuffix('-of')}")
    parsed = {model: parse_reference(model) for model in models}
    # The price of a server's unnamed model is known once the server is asked.
    servers = [(n.target, n.selects) for n in parsed.values() if n.kind == "remote"]
    priced = any(not name or load_config().price_for(url, name) for url, name in servers)
    if settings.values.equal == "money" and not (priced or settings.get("price")):
        hint = "Add --price IN,OUT, or [prices] in the config file."
        raise UsageError("--equal money needs a price, but no model has one.", hint=hint)
    for model, named in parsed.items():
        files = [*([Path(named.target)] if named.kind in ("gguf", "script") else []), *named.adapters]
        if missing := [file for file in files if not file.exists()]:
            said = f"a file of the model {model!r:.80} is missing: {missing[0]}."
            raise UsageError(said, hint="Correct its path.")
