"""Runs of `redraft train`, for the command line and for Python: settings in, a trained folder out.

`train` is the run that all share: it locates the model, makes everything ready, trains, keeps the record
beside the output, and measures or exports the result.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

from transformers import TrainerCallback

from redraft.counting import counted
from redraft.engines.hf.folders import folder_for
from redraft.engines.load import DEFAULTS
from redraft.errors import UsageError
from redraft.jobs.progress import RunMessage
from redraft.jobs.provenance import Provenance, RunFile
from redraft.machine import cache_folder
from redraft.train.memory import peak_memory, size
from redraft.train.options import PPO, REWARD, SFT, TrainVerb
from redraft.train.output import check_gguf, export_result
from redraft.train.processes import Say, leads, parting
from redraft.train.run import NEWEST, Ready, get_ready
from redraft.train.settings import RunSettings, settings_of
from redraft.train.stages import SFT_STAGES, Stages
from redraft.weights.output import Run


@dataclass(frozen=True)
class TrainStep:
    """A line of the log: a step, or an evaluation.

    Attributes:
        step: The steps done.
        steps: All steps of the run.
        numbers: Such as `loss`, in nats, `learning_rate` and `tokens_per_second`; or `eval_loss`.
    """

    step: int
    steps: int
    numbers: Mapping[str, float]


TrainEvent = TrainStep | RunMessage


@dataclass(frozen=True)
class TrainResult:
    """What a run came to.

    Attributes:
        folder: The output folder, with the trained model or adapter, its checkpoints and its log.
        steps: The steps done, in all sessions.
        loss: The loss of the last line of the log, else the mean of this session; None without a step.
        stopped_by: The signal that ended the run early, after it saved a checkpoint, or None. The same call
            resumes.
        message: What was made, and what to do next.
    """

    folder: Path
    steps: int
    loss: float | None
    stopped_by: Signals | None
    message: str


def train_sft(
    recipe: str | Path | None = None,
    *,
    on_event: Callable[[TrainEvent], object] | None = None,
    **settings: Any,
) -> TrainResult:
    """Train a model to answer, criticise itself, and revise. As `redraft train sft`, in the same files.

    After any stop, the same call resumes, and so does the command.

    Args:
        recipe: The name of a shipped recipe, or the path of a YAML file.
        on_event: Called with each step and message, which are then not printed.
        **settings: By the names of the command's flags: redraft's own, and those of TrainingArguments.

    Raises:
        UsageError: A setting is unknown or has a wrong value, or some contradict each other.
        RecordError: The data cannot be read.
        ModelError: The model is missing or damaged, or the run went wrong.
        OutputError: The output cannot be written, is in use, or was made in another way.
    """
    return _from_python(SFT, recipe, on_event, settings)


def train_reward(
    recipe: str | Path | None = None,
    *,
    on_event: Callable[[TrainEvent], object] | None = None,
    **settings: Any,
) -> TrainResult:
    """Train a reward model on pairs of answers. As `redraft train reward`; arguments as for `train_sft`."""
    return _from_python(REWARD, recipe, on_event, settings)


def train_ppo(
    recipe: str | Path | None = None,
    *,
    on_event: Callable[[TrainEvent], object] | None = None,
    **settings: Any,
) -> TrainResult:
    """Train a model on any reward. As `redraft train ppo`; arguments as for `train_sft`."""
    return _from_python(PPO, recipe, on_event, settings)


def _from_python(
    verb: TrainVerb,
    recipe: str | Path | None,
    on_event: Callable[[TrainEvent], object] | None,
    given: Mapping[str, Any],
) -> TrainResult:
    plain = {name: _plain(value) for name, value in given.items()}
    settings: Any = settings_of(verb, str(recipe) if recipe else None, lambda: plain)
    if settings.own.preview is not None or settings.own.estimate:
        raise UsageError("preview and estimate are for the command line.", hint=f"redraft train {verb.name}")

    def tell(line: str) -> None:
        if on_event is None:
            print(f"redraft: {line}", file=sys.stderr)
        else:
            on_event(RunMessage(line))

    result = train(verb, settings, tell=tell, on_step=on_event, command=f"redraft.train_{verb.name}")
    if result.message and leads() and not settings.own.quiet:
        tell(result.message)
    return result


def _plain(value: Any) -> Any:
    """Return a value as a recipe has it: paths are texts."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def stages_of(verb: TrainVerb) -> Stages[Any]:
    """Return what a verb does differently from others. Each needs libraries of its own."""
    if verb is REWARD:
        from redraft.train.reward import REWARD_STAGES

        return REWARD_STAGES
    if verb is PPO:
        from redraft.train.rl.stages import PPO_STAGES

        return PPO_STAGES
    return SFT_STAGES


def ready_for(verb: TrainVerb, settings: RunSettings[Any], model: str, *, tell: Say) -> Ready:
    """Do everything except the steps.

    Args:
        tell: Shows a line. A quiet run tells warnings alone.
    """
    say = (lambda _: None) if settings.own.quiet else tell
    return get_ready(settings, model, cache_folder() / "train", stages=stages_of(verb), say=say, warn=tell)


def train(
    verb: TrainVerb,
    settings: RunSettings[Any],
    *,
    tell: Say,
    on_step: Callable[[TrainStep], object] | None = None,
    command: str,
) -> TrainResult:
    """Train, with a record of the run beside the output.

    Args:
        on_step: Called with the lines of the log, in place of showing progress.
    """
    say: Say = tell if leads() and not settings.own.quiet else lambda _: None
    for line in settings.remarks:
        say(line)
    if not settings.own.data_path:
        raise no_data()
    if not settings.theirs.get("output_dir"):
        raise UsageError("there is no folder for the result.", hint="--output_dir FOLDER")
    with parting():
        model = folder_for(settings.own.model_name_or_path, command=command)
        if getattr(settings.own, "gguf", None):
            check_gguf(settings, model)
        ready = ready_for(verb, settings, model, tell=tell)
        if on_step:
            ready.loop.log.hide()
            ready.loop.callbacks.append(_Reports(on_step, ready.steps))
        done = _train(verb, ready, say=say, tell=tell)
        whole = done is not None and not ready.stopped_early(done)
        if ready.stages.measures and ready.eval_data and whole:
            from redraft.train.reward import measured

            say(f"the result is measured on {counted(len(ready.eval_data.rows), 'held-out pair')}.")
            for line in measured(ready, ready.eval_data).lines():
                say(line)
    return _result(verb, ready, done, command=command, tell=tell)


def no_data() -> UsageError:
    """Return the error for a run without data."""
    return UsageError("there is no data to train on.", hint="--data_path FILE")


class _Reports(TrainerCallback):
    def __init__(self, report: Callable[[TrainStep], object], steps: int) -> None:
        self._report, self._steps = report, steps

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        """After each line of the log, in the first process."""
        if args.should_save and {"loss", "eval_loss"} & logs.keys():
            self._report(TrainStep(state.global_step, self._steps, dict(logs)))


def _train(verb: TrainVerb, ready: Ready, *, say: Say, tell: Say) -> int | None:
    """Train, and return the steps done, or None in a dry run. The first process keeps the record."""
    output, own = ready.loop.folder, ready.settings.own
    record = RunFile(
        output,
        elsewhere=f"to another folder with --output_dir{_onwards(output)}",
        as_before=" (what the machine chose is said with --bf16, --dtype and --lora)",
        start_over="start over with --overwrite_output_dir",
    )
    provenance = Provenance(f"train {verb.name}", ready.config)

    def announce() -> None:
        """Print the plan, unless the existing output was made with other settings."""
        if ready.checkpoint or ready.replaces:
            record.check(provenance)
        for line in ready.lines():
            say(line)
        if ready.caution:
            tell(ready.caution)  # a quiet run says it too

    def begin() -> None:
        announce()
        paths = {"data_path": list(own.data_path), "eval_data_path": list(own.eval_data_path)}
        sources = [each._asdict() for each in ready.sources]
        record.begin(provenance, resume=ready.checkpoint is not None, **paths, sources=sources)

    lead = ready.args.should_save
    if own.dry_run:
        if lead:
            announce()
        return None
    done = ready.train(begin if lead else None)
    if lead:
        record.end(steps=done, **_memory(ready, say))
    return done


def _memory(ready: Ready, say: Say) -> dict[str, int]:
    """Print the peak memory of the run and the estimate, and return both for its record."""
    if ready.checkpoint and ready.checkpoint.step >= ready.steps:
        return {}  # nothing was trained
    took, plan = peak_memory(), ready.plan
    if plan is None:
        return {"memory_bytes": took}
    say(f"memory: {size(took)} at most (estimate: {size(plan.peak)})")
    return {"memory_bytes": took, "memory_estimate_bytes": plan.peak}


def _onwards(output: Path) -> str:
    """Return, for hints, how to train the result further if there is one."""
    made = (RunFile(output).read() or {}).get("config") or {}
    if not (output / ("adapter_config.json" if made.get("lora") else "config.json")).is_file():
        return ""
    base = f"{made.get('model_name_or_path')}+" if made.get("lora") else ""
    return f" (--model_name_or_path {shlex.quote(f'{base}{output}')} trains this one further)"


def _result(verb: TrainVerb, ready: Ready, done: int | None, *, command: str, tell: Say) -> TrainResult:
    """Export the result, if it is to be, and return it. After a dry run, remove the empty output folder."""
    loop, output = ready.loop, ready.loop.folder
    lines = {name: each for line in loop.state.log_history for name, each in line.items()}  # the last of each
    loss, stopped = lines.get("loss", lines.get("train_loss")), loop.stopped
    if done is None:
        with suppress(OSError):
            output.rmdir()  # if nothing is in it
        return TrainResult(output, 0, None, None, "")
    if stopped is not None and ready.stopped_early(done):
        message = f"stopped after step {done:,} of {ready.steps:,}. {how_to_resume(ready)}"
        return TrainResult(output, done, loss, Signals(stopped), message)
    own: Any = ready.settings.own
    if getattr(own, "gguf", None) and ready.args.should_save:
        run = Run(force=True, command=command, warn=tell, caution=tell)
        export_result(own, output, ready.base, run)
    following = what_follows(verb, own, ready.base, str(output))
    return TrainResult(output, done, loss, None, f"{output} holds {ready.method}. {following}")


def how_to_resume(ready: Ready) -> str:
    """Return how to resume a stopped run."""
    begins = ["--overwrite_output_dir"] if ready.settings.own.overwrite_output_dir else []
    asked = ready.args.resume_from_checkpoint
    if asked and asked.lower() not in NEWEST:
        begins.append("--resume_from_checkpoint")
    if begins:
        return f"To resume, type the command again without {' and '.join(begins)}."
    return "To resume, type the same command again."


def what_follows(verb: TrainVerb, own: Any, base: str, output: str) -> str:
    """Return what to type next with a result."""
    named, gguf = own.model_name_or_path, getattr(own, "gguf", None)
    if verb is REWARD:
        form = shlex.quote(f"reward:{f'{named}+{output}' if own.lora else output}")
        return f"Try it: redraft ask … --mode best-of --check {form}"
    if not own.lora:
        return _try(gguf or output)
    if named in DEFAULTS or named.lower().endswith(".gguf"):
        if gguf:
            return _try(f"{named}+{gguf}")
        words = shlex.join(["--base", named, "-o", "adapter.gguf"])
        return f"For llama.cpp: redraft weights lora-gguf {shlex.quote(output)} {words}"
    if not Path(base).expanduser().is_dir():
        return f"Put it into its base: redraft weights merge-lora {shlex.join([base, output])} -o FOLDER"
    tried = _try(f"{base}+{output}")
    if not gguf:
        return tried
    model = shlex.quote(f"BASE.gguf+{gguf}")
    return f"{tried} (llama.cpp: redraft weights gguf {shlex.quote(base)} -o BASE.gguf, then --model {model})"


def _try(model: str) -> str:
    return f"Try it: redraft ask … --model {shlex.quote(model)}"
