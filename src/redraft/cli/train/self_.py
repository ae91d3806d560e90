"""`redraft train self`: from a base model to one that checks and revises its own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redraft.cli.shell import flag, tell, write

_NAMES = "add, subtract, units, dates, count, letters, sort, unique"


def self_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the run.")],
    task: Annotated[
        list[str] | None,
        flag("TASK", f"What is learnt: {_NAMES}, or python:module.TASK. All of these by default."),
    ] = None,
    everyday: Annotated[
        Path | None, flag("FILE", "Prompts outside all tasks; 520 of redraft's own by default.")
    ] = None,
    start: Annotated[
        str | None,
        flag("RUN", "Train the adapters of an earlier run further: default, or its DIR.", "--from"),
    ] = None,
    model: Annotated[str, flag("MODEL", "The base: default, or a GGUF file.", "--model", "-m")] = "default",
    answers: Annotated[int, flag("N", "Exercises a task to learn answers from (1,600).", min=1)] = 1600,
    drafts: Annotated[int, flag("N", "Drafts a task to criticise and revise (800).", min=2)] = 800,
    held_out: Annotated[int, flag("N", "Exercises a task to test on (300).", min=1)] = 300,
    answer_steps: Annotated[int, flag("N", "Optimizer steps on answers (150).", min=0)] = 150,
    chain_steps: Annotated[int, flag("N", "Optimizer steps on chains (600).", min=1)] = 600,
    parallel: Annotated[int, flag("N", "Texts at once (32).", min=1)] = 32,
    seed: Annotated[int, flag("N", "Other exercises for each.")] = 1,
) -> None:
    """Train a model to check and revise its own answers to tasks.

    Each task draws prompts, and has an exact check that shows its work. One adapter learns right answers.
    It drafts answers to other prompts, the check criticises them, and a second adapter learns to criticise
    and revise. The model is then tested on prompts in words that it was not trained on: its first answers,
    its revised ones, and a vote of as many single answers as take the same tokens. All files are in DIR.
    To resume a stopped run, type the same command again. With --from, the tasks of --task are added to what
    a model can, and its own are rehearsed.
    """
    from redraft.jobs.machine import use_large_pages
    from redraft.train.self.road import Road, Scale, Start
    from redraft.train.self.tasks import TASKS, find_task

    use_large_pages()
    chosen = [find_task(name) for name in task] if task else list(TASKS.values())
    scale = Scale(answers, drafts, held_out, answer_steps, chain_steps)
    road = Road(folder, chosen, everyday, scale, model, seed, parallel, Start.of(start) if start else None)
    road.walk()
    write(road.trial.report())
    tell(f'Ask it: redraft ask "{chosen[0].example(seed)}" --model {road.revising}')
