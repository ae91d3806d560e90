"""`redraft train`: train a model on chains, so that it writes chains by itself.

`redraft.train.options`, not typer, parses the flags of sft, reward and ppo, because these flags have the
names that recipes use, and may take several words. `redraft.train.api` runs the training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.shell import argument, command_line, flag, tell, write
from redraft.cli.verb import Sections, Verb
from redraft.jobs.machine import cache_folder, give_back_large, keep_few_kernels, use_large_pages
from redraft.train.processes import Say, leads, parting

if TYPE_CHECKING:
    from typer._click import Context

    from redraft.train.options import RunOptions

app = typer.Typer(help="Train models on chains, and reward models on pairs of answers.", no_args_is_help=True)

Words = Annotated[
    list[str] | None, argument("[RECIPE] [--NAME VALUE]...", "A recipe, by name or path, and settings.")
]
"""The unparsed arguments of a training command."""


def sft(words: Words = None) -> None:
    """Train a model to answer, criticise itself, and revise.

    A recipe is a YAML file with the flags' names, or the name of a shipped recipe. Flags override recipes.
    The flags of Alpaca's, Vicuna's and SelFee's training commands can be used unchanged. To resume a stopped
    run, type the same command again.
    """
    _run("sft", words)


def reward(words: Words = None) -> None:
    """Train a reward model, which rates an answer with a number.

    The number is higher for the answer that people or checks preferred. The data are pairs of answers to a
    prompt: HH-RLHF, SHP, ranked replies of OASST1, records {prompt, chosen, rejected}, or redraft's chains,
    whose rejected drafts are paired with their accepted revisions. With --eval_data_path, the result is
    measured on held-out pairs. Recipes, flags and resuming are as in `redraft train sft`.
    """
    _run("reward", words)


def ppo(words: Words = None) -> None:
    """Train a model with reinforcement learning on any reward.

    The model answers prompts, --reward judges the answers, and PPO, RLOO or GRPO (--algorithm) makes the
    good ones likelier. The reward is a check, a reward model, a Python function, a program, or a sum of
    several. All answers are in samples.jsonl. Recipes, flags and resuming are as in `redraft train sft`.
    """
    _run("ppo", words)


def _run(name: str, words: list[str] | None) -> None:
    from redraft.train.options import LARGE, VERBS, parse

    use_large_pages()
    keep_few_kernels()
    give_back_large(LARGE)
    own = parse(words or [], VERBS[name])
    say: Say = (lambda _: None) if own.quiet or not leads() else tell
    if own.preview is not None or own.estimate:
        _look(own, say)
        return
    from redraft.jobs.signals import exit_status
    from redraft.train.api import train

    result = train(own, tell=tell, command=command_line())
    if result.message:
        say(result.message)
    if result.stopped_by is not None:
        raise typer.Exit(exit_status(result.stopped_by))


def _look(own: RunOptions, say: Say) -> None:
    from redraft.train.api import found_model, ready_for

    model = found_model(own, command_line())
    if own.preview is not None and leads():
        say("loading PyTorch and the tokenizer.")
        from redraft.train.look import preview

        preview(own, model, cache_folder() / "train", show=write, say=say)
    if not own.estimate:
        return
    from tempfile import TemporaryDirectory

    from redraft.jobs.signals import exit_status
    from redraft.train.look import estimate, thrown_away

    with parting(), TemporaryDirectory(prefix="redraft-") as folder:
        ready = ready_for(thrown_away(own, Path(folder)), model, tell=tell)
        for line in ready.lines():
            say(line)
        found = estimate(ready)
        if (stopped := ready.loop.stopped) is not None:
            raise typer.Exit(exit_status(stopped))
        for line in found.lines(own.price_per_hour) if found else ():
            write(line)


def self_(
    folder: Annotated[Path, argument("DIR", "The folder of the run.")],
    task: Annotated[
        list[str] | None,
        flag("TASK", "A task to learn: add, subtract, dates (all three by default), or python:module.TASK."),
    ] = None,
    everyday: Annotated[
        Path | None, flag("FILE", "Prompts outside the tasks, to keep other skills.  [redraft's 520]")
    ] = None,
    start: Annotated[
        str | None,
        flag("RUN", "Train the adapters of an earlier run further: default, or its DIR.", "--from"),
    ] = None,
    model: Annotated[str, flag("MODEL", "The base: default, or a GGUF file.", "--model", "-m")] = "default",
    answers: Annotated[int, flag("N", "Exercises per task to learn answers from (1,600).", min=1)] = 1600,
    drafts: Annotated[int, flag("N", "Drafts per task to criticise and revise (2,400).", min=2)] = 2400,
    held_out: Annotated[int, flag("N", "Exercises per task to test on (300).", min=1)] = 300,
    answer_steps: Annotated[int, flag("N", "Optimizer steps on answers (150).", min=0)] = 150,
    chain_steps: Annotated[int, flag("N", "Optimizer steps on chains (1,300).", min=1)] = 1300,
    parallel: Annotated[int, flag("N", "Generate N texts at once (32).", min=1)] = 32,
    seed: Annotated[int, flag("N", "Random seed of the run (1).")] = 1,
) -> None:
    """Train a model to check and revise its own answers to tasks.

    Each task makes random prompts. Its exact check shows the calculation. One adapter learns right
    answers, and drafts answers to other prompts. The check criticises the drafts, and a second adapter learns
    to criticise and revise. First and revised answers are then tested on prompts that are worded differently.
    All files are in DIR, with a model card. To resume a stopped run, type the same command again. With
    --from, the model learns the tasks of --task besides its old ones, which are rehearsed.
    """
    from redraft.train.options import LARGE
    from redraft.train.self.road import Road, Scale, Start
    from redraft.train.self.tasks import TASKS, find_task

    use_large_pages()
    keep_few_kernels()
    give_back_large(LARGE)
    chosen = [find_task(name) for name in task] if task else list(TASKS.values())
    scale = Scale(answers, drafts, held_out, answer_steps, chain_steps)
    road = Road(folder, chosen, everyday, scale, model, seed, parallel, Start.of(start) if start else None)
    write(road.walk())
    tell(f'Ask the model: redraft ask "{chosen[0].example(seed)}" --model {road.revising}')


class _Trains(Verb):
    def sections(self, ctx: Context) -> Sections:
        from redraft.train.options import VERBS, help_records

        found = super().sections(ctx)
        for title, lines in help_records(VERBS[self.name or ""]).items():
            found[title] = [(line[0].removeprefix("--"), line) for line in lines]
        return found


for _verb in (sft, reward, ppo):
    app.command(cls=_Trains, context_settings={"ignore_unknown_options": True})(_verb)
app.command("self", cls=Verb)(self_)
