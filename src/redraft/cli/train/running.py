"""A verb of `redraft train`: from the words after it to a result, or to a preview or an estimate.

Flags are not declared to typer: recipes use the same names, and most belong to transformers
(`redraft.train.settings.args`). This module wires the run: the record beside the output, and how it ends.
What a verb adds is its `TrainCommand`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.shell import tell, write
from redraft.errors import UsageError
from redraft.machine import give_back_large, keep_few_kernels, use_large_pages
from redraft.options import options_of
from redraft.train.processes import Say, leads, parting
from redraft.train.settings.options import LARGE, TrainVerb

if TYPE_CHECKING:
    from redraft.jobs.provenance import Provenance, RunFile
    from redraft.train.run.run import Ready
    from redraft.train.settings.args import RunSettings
    from redraft.train.settings.options import DataOptions
    from redraft.train.stages import Stages

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RECIPE] --NAME VALUE…", help="A recipe, by name or path, and settings."),
]
"""The words of a verb, as its function declares them."""


@dataclass(frozen=True)
class TrainCommand:
    """What a verb adds to all others.

    Attributes:
        verb: Its settings.
        stages: Returns how it reads records and loads models.
        check: Called with the settings and the model's folder before anything is loaded.
        measure: Called in every process when the result is saved.
        finish: Called when the processes have parted. Returns what to type next.
    """

    verb: TrainVerb
    stages: Callable[[], Stages[Any]]
    check: Callable[[RunSettings[DataOptions], str], None]
    measure: Callable[[Ready, Say], None]
    finish: Callable[[Ready], str]


def run(command: TrainCommand, words: list[str] | None) -> None:
    """Do what the words after a verb say."""
    use_large_pages()
    keep_few_kernels()
    give_back_large(LARGE)
    from redraft.train.settings.args import parse_for

    _check_data(command.verb, words or [])
    settings: Any = parse_for(command.verb, words or [])
    silent = settings.own.quiet or not leads()
    say: Say = (lambda _: None) if silent else tell
    for line in settings.remarks:
        say(line)
    if not settings.own.data_path:
        raise _no_data()
    if settings.own.preview is not None:
        _preview(command, settings, say)
    if settings.own.estimate:
        with parting():
            _estimate(command, settings, say)
    if settings.own.preview is not None or settings.own.estimate:
        return
    if not settings.theirs.get("output_dir"):
        raise UsageError("there is no folder for the result.", hint="--output_dir FOLDER")
    with parting():
        model = _folder(settings)
        command.check(settings, model)
        ready = _ready(command, settings, model)
        done = _train(command, ready, say)
        if done is not None and not ready.stopped_early(done):
            command.measure(ready, say)
    _leave(command, ready, done, say)


def _check_data(verb: TrainVerb, words: list[str]) -> None:
    """Refuse data that is not there by the words alone: to read all settings, torch is loaded, for seconds.

    Raises:
        UsageError: No data is named, neither by a recipe nor by a flag that is not known here.
        RecordError: A file does not exist.
    """
    from redraft.formats.read.files import reading

    flags: dict[str, list[str]] = {}
    flag = ""  # of a recipe
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            flag = name.replace("-", "_")
            flags.setdefault(flag, []).extend([value] if equals else [])
        else:
            flags.setdefault(flag, []).append(word)
    for path in (*flags.get("data_path", ()), *flags.get("eval_data_path", ())):
        with reading(Path(path)):
            Path(path).expanduser().stat()
    if flags.keys() <= {"output_dir", *options_of(verb.options)} - {"data_path"}:
        raise _no_data()


def _no_data() -> UsageError:
    return UsageError("there is no data to train on.", hint="--data_path FILE")


def _folder(settings: RunSettings[DataOptions]) -> str:
    from redraft.cli.shell import command_line
    from redraft.engines.hf.folders import folder_for

    return folder_for(settings.own.model_name_or_path, command=command_line())


def _ready(command: TrainCommand, settings: RunSettings[DataOptions], model: str) -> Ready:
    from redraft.engines.llamacpp.default_model import cache_folder
    from redraft.train.run.run import get_ready

    say = (lambda _: None) if settings.own.quiet else tell
    return get_ready(settings, model, cache_folder() / "train", stages=command.stages(), say=say, warn=tell)


def _preview(command: TrainCommand, settings: RunSettings[DataOptions], say: Say) -> None:
    """Show the first examples of the run, and the counts of its records."""
    from rich.console import Console

    from redraft.engines.llamacpp.default_model import cache_folder
    from redraft.train.run.preview import preview

    model, console = _folder(settings), Console(highlight=False)
    if leads():
        preview(settings, model, cache_folder() / "train", console, stages=command.stages(), say=say)


def _estimate(command: TrainCommand, settings: RunSettings[DataOptions], say: Say) -> None:
    """Print an estimate of the run, from a few steps that are thrown away."""
    from tempfile import TemporaryDirectory

    from redraft.jobs.signals import exit_status
    from redraft.train.run.estimate import estimate, thrown_away

    with TemporaryDirectory(prefix="redraft-") as folder:
        ready = _ready(command, thrown_away(settings, Path(folder)), _folder(settings))
        for line in ready.lines():
            say(line)
        found = estimate(ready)
        if (stopped := ready.loop.stopped) is not None:
            raise typer.Exit(exit_status(stopped))
        if ready.args.should_save:
            for line in found.lines():
                write(line)


def _train(command: TrainCommand, ready: Ready, say: Say) -> int | None:
    """Train, with a record of the run beside the output. Return the steps done, or None in a dry run."""
    from redraft.jobs.provenance import RunFile

    output = ready.loop.folder
    record = RunFile(
        output,
        elsewhere=f"to another folder with --output_dir{_onwards(output)}",
        as_before=" (what the machine chose is said with --bf16, --dtype and --lora)",
        start_over="start over with --overwrite_output_dir",
    )
    lead = ready.args.should_save
    if ready.settings.own.dry_run:
        if lead:
            _announce(command, ready, record, say)
        return None
    done = ready.train((lambda: _begin(command, ready, record, say)) if lead else None)
    if lead:
        record.end(steps=done, **_memory(ready, say))
    return done


def _leave(command: TrainCommand, ready: Ready, done: int | None, say: Say) -> None:
    """Finish, and print what to type next. After a dry run, remove the empty output folder."""
    from redraft.jobs.signals import exit_status

    output = ready.loop.folder
    if done is None:
        with suppress(OSError):
            output.rmdir()  # if nothing is in it
        return
    if (stopped := ready.loop.stopped) is not None and ready.stopped_early(done):
        say(f"stopped after step {done:,} of {ready.steps:,}. {_again(ready)}")
        raise typer.Exit(exit_status(stopped))
    following = command.finish(ready)
    say(f"{output} holds {ready.method}. {following}")


def try_result(ready: Ready) -> str:
    """Return what to type next with a model or an adapter."""
    own, output = ready.settings.own, str(ready.loop.folder)
    named = own.model_name_or_path
    if own.lora and (named == "default" or named.lower().endswith(".gguf")):
        words = shlex.join(["--base", named, "-o", "adapter.gguf"])
        return f"For llama.cpp: redraft weights lora-gguf {shlex.quote(output)} {words}"
    return f"Try it: redraft ask … --model {shlex.quote(f'{named}+{output}' if own.lora else output)}"


def _again(ready: Ready) -> str:
    """Return how to resume a stopped run."""
    from redraft.train.run.run import NEWEST

    begins = ["--overwrite_output_dir"] if ready.settings.own.overwrite_output_dir else []
    asked = ready.args.resume_from_checkpoint
    if asked and asked.lower() not in NEWEST:
        begins.append("--resume_from_checkpoint")
    if begins:
        return f"To resume, type the command again without {' and '.join(begins)}."
    return "To resume, type the same command again."


def _memory(ready: Ready, say: Say) -> dict[str, int]:
    """Print the peak memory of the run and the estimate, and return both for its record."""
    from redraft.train.model.memory import peak_memory, size

    if ready.checkpoint and ready.checkpoint.step >= ready.steps:
        return {}  # nothing was trained
    took, plan = peak_memory(), ready.plan
    if plan is None:
        return {"memory_bytes": took}
    say(f"memory: {size(took)} at most (estimate: {size(plan.peak)})")
    return {"memory_bytes": took, "memory_estimate_bytes": plan.peak}


def _onwards(output: Path) -> str:
    """Return, for hints, how to train the result further if there is one."""
    from redraft.jobs.provenance import RunFile

    made = (RunFile(output).read() or {}).get("config") or {}
    if not (output / ("adapter_config.json" if made.get("lora") else "config.json")).is_file():
        return ""
    base = f"{made.get('model_name_or_path')}+" if made.get("lora") else ""
    return f" (--model_name_or_path {shlex.quote(f'{base}{output}')} trains this one further)"


def _announce(command: TrainCommand, ready: Ready, record: RunFile, say: Say) -> Provenance:
    """Print the plan of the run, and return its provenance.

    Fail if the existing output was made with other settings.
    """
    from redraft.jobs.provenance import Provenance

    provenance = Provenance(f"train {command.verb.name}", ready.config)
    if ready.checkpoint or ready.replaces:
        record.check(provenance)
    for line in ready.lines():
        say(line)
    if ready.caution:
        tell(ready.caution)  # a quiet run says it too
    return provenance


def _begin(command: TrainCommand, ready: Ready, record: RunFile, say: Say) -> None:
    """Start the record, unless the existing output was made with other settings."""
    provenance = _announce(command, ready, record, say)
    own = ready.settings.own
    paths = {"data_path": list(own.data_path), "eval_data_path": list(own.eval_data_path)}
    sources = [each._asdict() for each in ready.sources]
    record.begin(provenance, resume=ready.checkpoint is not None, **paths, sources=sources)
