"""`redraft train`: from chains to a model that writes them by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.train.running import run
from redraft.cli.train.self_ import self_
from redraft.cli.verb import Sections, Verb

if TYPE_CHECKING:
    from typer._click import Context

app = typer.Typer(help="Train models on chains, and reward models on pairs of answers.", no_args_is_help=True)

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RECIPE] [--NAME VALUE]...", help="A recipe, by name or path, and settings."),
]
"""The words of a verb."""


def sft(words: Words = None) -> None:
    """Train a model to answer, criticise itself, and revise.

    A recipe is a YAML file with the same names as the flags, or the name of a shipped one. Flags override it.
    The flags of the commands of Alpaca, Vicuna and SelFee work as they are. To resume a stopped run, type
    the same command again.
    """
    run("sft", words)


def reward(words: Words = None) -> None:
    """Train a reward model: a number for an answer.

    It is higher for the answer that people, or checks, preferred. The data are pairs of answers to a prompt:
    HH-RLHF, SHP, ranked replies of OASST1, prompt with chosen and rejected, or redraft's chains, whose
    rejected drafts stand against their accepted revisions. With --eval_data_path, the result is measured on
    held-out pairs. Recipes, flags and resuming are as in `redraft train sft`.
    """
    run("reward", words)


def ppo(words: Words = None) -> None:
    """Train a model with reinforcement learning on any reward.

    The model answers prompts, --reward judges the answers, and PPO, RLOO or GRPO (--algorithm) makes the
    good ones likelier. The reward is a check, a reward model, a Python function, a program, a server, or a
    sum of several. All answers are in samples.jsonl. Recipes, flags and resuming are as in
    `redraft train sft`.
    """
    run("ppo", words)


def _takes_words(name: str) -> type[Verb]:
    class Trains(Verb):
        """A command whose flags are not typer's: they are names of a recipe as well."""

        def sections(self, ctx: Context) -> Sections:
            """Return the settings by groups, after the options."""
            from redraft.train.options import VERBS, help_records

            settings = help_records(VERBS[name]).items()
            named = {
                title: [(line[0].removeprefix("--"), line) for line in lines] for title, lines in settings
            }
            return {**super().sections(ctx), **named}

    return Trains


for _verb in (sft, reward, ppo):
    app.command(cls=_takes_words(_verb.__name__), context_settings={"ignore_unknown_options": True})(_verb)
app.command("self", cls=Verb)(self_)
