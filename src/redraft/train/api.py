"""Run `redraft train` with given settings, from the command line or from Python.

Every run calls `train`, which finds the model, prepares the data, trains, writes a record of the run, and
measures or exports the trained model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any

from redraft.chain.read.files import STDIO, read_lines
from redraft.engines.hf.folders import folder_for, local_folder
from redraft.errors import UsageError
from redraft.jobs.counting import size_in_words
from redraft.jobs.machine import cache_folder
from redraft.jobs.progress import RunMessage
from redraft.jobs.provenance import Provenance, RunFile
from redraft.train.options import PpoOptions, RewardOptions, RunOptions, SftOptions, settings_of
from redraft.train.processes import Say, leads, parting
from redraft.train.rl.rewards import parse_rewards

if TYPE_CHECKING:
    from redraft.train.run import Ready


@dataclass(frozen=True)
class TrainStep:
    """A line of the log, written after a step or an evaluation.

    Attributes:
        step: The number of steps done so far.
        steps: The number of steps in the whole run.
        numbers: Metrics by name: `loss` (in nats), `learning_rate`, `tokens_per_second` …, or `eval_loss`.
    """

    step: int
    steps: int
    numbers: Mapping[str, float]


TrainEvent = TrainStep | RunMessage
OnEvent = Callable[[TrainEvent], object] | None


@dataclass(frozen=True)
class TrainResult:
    """The result of a training run.

    Attributes:
        folder: The output folder, with the trained model or adapter, the checkpoints and the log.
        steps: The number of steps done, including the steps before the run was resumed.
        loss: The last logged loss, or the mean loss if no loss was logged. None if this call did no step.
        stopped_by: The signal that ended the run early, or None. The same call resumes a stopped run.
        message: A line for the user that names the output folder and the next command.
    """

    folder: Path
    steps: int
    loss: float | None
    stopped_by: Signals | None
    message: str


def train_sft(recipe: str | Path | None = None, *, on_event: OnEvent = None, **settings: Any) -> TrainResult:
    """Train a model to answer, and to criticise and revise answers, as `redraft train sft` does.

    The same call, or the command with the same settings, resumes a stopped run.

    Args:
        recipe: The name of a shipped recipe, or the path of a YAML file.
        on_event: A function that gets each training step and each message. By default, both are printed.
        **settings: The command's flags, by name.

    Raises:
        UsageError: A setting is unknown or has a wrong value, or settings contradict each other.
        RecordError: The data cannot be read.
        ModelError: The model is missing or damaged, or training failed.
        OutputError: The output cannot be written, is in use, or was made with other settings.
    """
    return _from_python(SftOptions, recipe, on_event, settings)


def train_reward(
    recipe: str | Path | None = None, *, on_event: OnEvent = None, **settings: Any
) -> TrainResult:
    """Train a reward model on answer pairs, as `redraft train reward` does. Arguments: see `train_sft`."""
    return _from_python(RewardOptions, recipe, on_event, settings)


def train_ppo(recipe: str | Path | None = None, *, on_event: OnEvent = None, **settings: Any) -> TrainResult:
    """Train a model to reach higher rewards, as `redraft train ppo` does. Arguments: see `train_sft`."""
    return _from_python(PpoOptions, recipe, on_event, settings)


def _from_python(
    options: type[RunOptions], recipe: str | Path | None, on_event: OnEvent, given: Mapping[str, Any]
) -> TrainResult:
    plain = {name: _plain(value) for name, value in given.items()}
    own = settings_of(options, str(recipe) if recipe else None, lambda: plain)
    if own.preview is not None or own.estimate:
        why = "the settings preview and estimate work only on the command line."
        raise UsageError(why, hint=f"redraft train {own.verb}")

    def tell(line: str) -> None:
        if on_event is None:
            print(f"redraft: {line}", file=sys.stderr)
        else:
            on_event(RunMessage(line))

    result = train(own, tell=tell, on_step=on_event, command=f"redraft.train_{own.verb}")
    if result.message and leads() and not own.quiet:
        tell(result.message)
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def found_model(own: RunOptions, command: str) -> str:
    """Check the settings of data, output and rewards. Return the model's folder, or its name on the hub."""
    if not own.data_path:
        raise UsageError("there is no data to train on.", hint="--data_path FILE")
    for option, paths in (("data", own.data_path), ("eval_data", vars(own).get("eval_data_path", ()))):
        if STDIO in paths:
            why = "standard input cannot be trained on: the data is read more than once."
            raise UsageError(why, hint=f"Save it to a file: --{option}_path FILE")
        first = [next(read_lines(Path(path)), None) for path in paths]
        if first and not any(first):
            why = f"{', '.join(paths):.120}: there are no records."
            raise UsageError(why, hint=f"--{option}_path FILE, with one record per line")
    if not (own.output_dir or own.preview or own.estimate):
        raise UsageError("there is no folder for the result.", hint="--output_dir FOLDER")
    if isinstance(own, PpoOptions) and not own.preview:
        parse_rewards(own.reward)
    model = folder_for(own.model_name_or_path, command=command)
    local_folder(model)
    return model


def ready_for(own: RunOptions, model: str, *, tell: Say) -> Ready:
    """Return a run that is ready for its first step."""
    say: Say = (lambda _: None) if own.quiet else tell
    if leads():
        say("loading PyTorch and the model.")
    from redraft.train.run import get_ready  # slow to import

    return get_ready(own, model, cache_folder() / "train", say=say, warn=tell)


def train(
    own: RunOptions, *, tell: Say, on_step: Callable[[TrainStep], object] | None = None, command: str
) -> TrainResult:
    """Train, and write a record of the run next to the output folder.

    `on_step` is called with each line of the log. With `on_step`, no progress is shown.
    """
    say: Say = tell if leads() and not own.quiet else lambda _: None
    model = found_model(own, command)
    with parting():
        ready = ready_for(own, model, tell=tell)
        if on_step:
            ready.loop.log.show = lambda *line: on_step(TrainStep(*line))
        done = _train(ready, say=say)
        if done is not None and not ready.stopped_early(done):
            ready.verb.finish(ready.own, ready.loop, ready.base, command=command, say=say, warn=tell)
    return _result(ready, done)


def _train(ready: Ready, *, say: Say) -> int | None:
    output, own = ready.loop.folder, ready.own
    afresh = "start over with --overwrite_output_dir"
    adapter = own.verb == "sft" and (output / "adapter_config.json").is_file()
    further = f" (--lora_from {output} trains that adapter further)" if own.lora and adapter else ""
    record = RunFile(output, elsewhere=f"to another folder with --output_dir{further}", start_over=afresh)
    provenance = Provenance(f"train {own.verb}", ready.config)

    def announce() -> None:
        if ready.checkpoint or ready.replaces:
            record.check(provenance)
        for line in ready.lines():
            say(line)

    def begin() -> None:
        announce()
        sources = [each._asdict() for each in ready.sources]
        paths = {name: list(vars(own).get(name, ())) for name in ("data_path", "eval_data_path")}
        if not ready.is_complete:  # the first step may take a minute
            say(f"step {ready.checkpoint.step + 1 if ready.checkpoint else 1} begins.")
        record.begin(provenance, resume=bool(ready.checkpoint) or ready.replaces, **paths, sources=sources)

    lead = ready.args.should_save
    if own.dry_run:
        if lead:
            announce()
        say("this was a dry run: nothing was trained.")
        return None
    done = ready.train(begin if lead else None)
    if lead:
        from redraft.train.loop import peak_memory

        memory = {} if ready.is_complete else {"memory_bytes": peak_memory()}
        for took in memory.values():
            say(f"memory: {size_in_words(took)} at most")
        record.end(steps=done, **memory)
    return done


def _result(ready: Ready, done: int | None) -> TrainResult:
    loop, output = ready.loop, ready.loop.folder
    lines = {name: each for line in loop.state.log_history for name, each in line.items()}  # last values
    loss, stopped = lines.get("loss", lines.get("train_loss")), loop.stopped
    if done is None:
        with suppress(OSError):
            output.rmdir()  # fails unless it is empty
        return TrainResult(output, 0, None, None, "")
    if stopped is not None and ready.stopped_early(done):
        afresh = ready.own.overwrite_output_dir
        again = "the command again without --overwrite_output_dir" if afresh else "the same command again"
        message = f"training stopped after step {done:,} of {ready.loop.steps:,}. To resume, type {again}."
        return TrainResult(output, done, loss, Signals(stopped), message)
    following = ready.verb.following(ready.own, ready.base)
    return TrainResult(output, done, loss, None, f"{output} contains {ready.method}. {following}")
