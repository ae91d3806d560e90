"""`redraft train sft`: supervised fine-tuning, by the flags of SelFee's, Alpaca's and Vicuna's trainers.

Flags are not declared to typer: recipes use the same names, and most belong to transformers
(`redraft.train.settings.args`). This module wires the run: the record beside the output, a GGUF file of the
result, and what to type next.
"""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.allocator import give_back_large, keep_few_kernels, use_large_pages
from redraft.cli.shell import tell, write
from redraft.cli.train.base import folder_for
from redraft.errors import UsageError
from redraft.train.processes import Say, leads, parting
from redraft.train.settings.options import LARGE

if TYPE_CHECKING:
    from redraft.jobs.provenance import Provenance, RunFile
    from redraft.train.run.run import Ready
    from redraft.train.settings.args import TrainSettings


def sft(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE] --NAME VALUE…", help="A recipe, by name or path, and settings."),
    ] = None,
) -> None:
    """Train a model to answer, criticise itself, and revise.

    A recipe is a YAML file with the same names as the flags, or the name of a shipped one. Flags override it.
    All fields of transformers' TrainingArguments are flags too, and those of older versions are translated.
    To resume a stopped run, type the same command again.
    """
    use_large_pages()
    keep_few_kernels()
    give_back_large(LARGE)
    from redraft.train.settings.args import parse

    settings = parse(words or [])
    silent = settings.own.quiet or not leads()
    say: Say = (lambda _: None) if silent else tell
    for line in settings.remarks:
        say(line)
    if not settings.own.data_path:
        raise UsageError("there is no data to train on.", hint="--data_path FILE")
    if settings.own.preview is not None:
        _preview(settings, say)
    if settings.own.estimate:
        with parting():
            _estimate(settings, say)
    if settings.own.preview is not None or settings.own.estimate:
        return
    if not settings.theirs.get("output_dir"):
        raise UsageError("there is no folder for the result.", hint="--output_dir FOLDER")
    with parting():
        ready = _ready(settings)
        done = _train(ready, say)
    _leave(ready, done, say)


def _ready(settings: TrainSettings) -> Ready:
    from redraft.cli.train.gguf import check_gguf
    from redraft.engines.llamacpp.default_model import cache_folder
    from redraft.train.run.run import get_ready

    model = folder_for(settings.own.model_name_or_path)
    check_gguf(settings, model)
    say = (lambda _: None) if settings.own.quiet else tell
    return get_ready(settings, model, cache_folder() / "train", say=say)


def _preview(settings: TrainSettings, say: Say) -> None:
    """Show the first examples of the run, and the counts of its records."""
    from rich.console import Console

    from redraft.engines.llamacpp.default_model import cache_folder
    from redraft.train.plan.preview import preview

    model = folder_for(settings.own.model_name_or_path)
    if leads():
        preview(settings, model, cache_folder() / "train", Console(highlight=False), say=say)


def _estimate(settings: TrainSettings, say: Say) -> None:
    """Print an estimate of the run, from a few steps that are thrown away."""
    from tempfile import TemporaryDirectory

    from redraft.jobs.signals import exit_status
    from redraft.train.plan.estimate import estimate, thrown_away

    with TemporaryDirectory(prefix="redraft-") as folder:
        ready = _ready(thrown_away(settings, Path(folder)))
        for line in ready.lines():
            say(line)
        found = estimate(ready)
        if (stopped := ready.loop.stopped) is not None:
            raise typer.Exit(exit_status(stopped))
        if ready.args.should_save:
            for line in found.lines():
                write(line)


def _train(ready: Ready, say: Say) -> int | None:
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
            _announce(ready, record, say)
        return None
    done = ready.train((lambda: _begin(ready, record, say)) if lead else None)
    if lead:
        record.end(steps=done, **_memory(ready, say))
    return done


def _leave(ready: Ready, done: int | None, say: Say) -> None:
    """Export the result, and print what to type next. After a dry run, remove the empty output folder."""
    from redraft.cli.train.gguf import export_result
    from redraft.jobs.signals import exit_status

    output = ready.loop.folder
    if done is None:
        with suppress(OSError):
            output.rmdir()  # if nothing is in it
        return
    if (stopped := ready.loop.stopped) is not None and ready.stopped_early(done):
        say(f"stopped after step {done:,} of {ready.steps:,}. {_again(ready)}")
        raise typer.Exit(exit_status(stopped))
    if ready.args.should_save and ready.settings.own.gguf:
        export_result(ready, output)
    say(f"{output} holds {ready.method}. {_next(ready, output)}")


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


def _announce(ready: Ready, record: RunFile, say: Say) -> Provenance:
    """Print the plan of the run, and return its provenance.

    Fail if the existing output was made with other settings.
    """
    from redraft.jobs.provenance import Provenance

    provenance = Provenance("train sft", ready.config)
    if ready.checkpoint or ready.replaces:
        record.check(provenance)
    for line in ready.lines():
        say(line)
    return provenance


def _begin(ready: Ready, record: RunFile, say: Say) -> None:
    """Start the record, unless the existing output was made with other settings."""
    provenance = _announce(ready, record, say)
    own = ready.settings.own
    paths = {"data_path": list(own.data_path), "eval_data_path": list(own.eval_data_path)}
    record.begin(provenance, resume=ready.checkpoint is not None, **paths)


def _next(ready: Ready, output: Path) -> str:
    """Return what to type next."""
    own, result = ready.settings.own, str(output)
    if not ready.settings.own.lora:
        return _try(own.gguf or result)
    named = own.model_name_or_path
    if named != "default" and not named.lower().endswith(".gguf"):
        return _beside_folder(ready.base, result, own.gguf)
    if own.gguf:
        return _try(f"{named}+{own.gguf}")
    words = shlex.join(["--base", named, "-o", "adapter.gguf"])
    return f"For llama.cpp: redraft weights lora-gguf {shlex.quote(result)} {words}"


def _beside_folder(base: str, result: str, gguf: str | None) -> str:
    """Return what to type for a base in a folder, which llama.cpp does not load, or on the hub."""
    if not Path(base).expanduser().is_dir():
        return f"Put it into its base: redraft weights merge-lora {shlex.join([base, result])} -o FOLDER"
    tried = _try(f"{base}+{result}")
    if not gguf:
        return tried
    model = shlex.quote(f"BASE.gguf+{gguf}")
    return f"{tried} (llama.cpp: redraft weights gguf {shlex.quote(base)} -o BASE.gguf, then --model {model})"


def _try(model: str) -> str:
    return f"Try it: redraft ask … --model {shlex.quote(model)}"
