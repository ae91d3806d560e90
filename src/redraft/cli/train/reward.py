"""`redraft train reward`: a reward model from pairs of answers, of which one is better."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from redraft.cli.train.running import TrainCommand, Words, run
from redraft.counting import counted
from redraft.train.processes import Say
from redraft.train.settings.options import REWARD

if TYPE_CHECKING:
    from redraft.train.run.run import Ready
    from redraft.train.stages import Stages


def reward(words: Words = None) -> None:
    """Train a reward model: a number for an answer.

    It is higher for the answer that people, or checks, preferred. The data are pairs of answers to a prompt:
    HH-RLHF, SHP, ranked replies of OASST1, prompt with chosen and rejected, or redraft's chains, whose
    rejected drafts stand against their accepted revisions. With --eval_data_path, the result is measured on
    held-out pairs. Recipes, flags and resuming are as in `redraft train sft`.
    """
    run(COMMAND, words)


def _stages() -> Stages[Any]:
    from redraft.train.reward import REWARD_STAGES

    return REWARD_STAGES


def _measure(ready: Ready, say: Say) -> None:
    """Measure the result on held-out pairs."""
    from redraft.train.reward import measured

    if ready.eval_data:
        say(f"the result is measured on {counted(len(ready.eval_data.rows), 'held-out pair')}.")
    if found := measured(ready):
        for line in found.lines():
            say(line)


def _finish(ready: Ready) -> str:
    """Return what to type next."""
    own, output = ready.settings.own, str(ready.loop.folder)
    path = f"{own.model_name_or_path}+{output}" if own.lora else output
    return f"Try it: redraft ask … --mode best-of --check {shlex.quote(f'reward:{path}')}"


COMMAND = TrainCommand(REWARD, _stages, lambda *_: None, _measure, _finish)
