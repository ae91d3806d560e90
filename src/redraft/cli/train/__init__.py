"""`redraft train`: from chains to a model that writes them by itself. One small file a verb."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from redraft.cli.shell import Verb
from redraft.cli.train import dpo, ppo, reward, sft
from redraft.train.settings.options import DPO, PPO, REWARD, SFT, TrainVerb, help_records

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

app = typer.Typer(help="Train models on chains, and reward models on pairs of answers.", no_args_is_help=True)


def _takes_words(verb: TrainVerb) -> type[Verb]:
    class Trains(Verb):
        """A command whose flags are not typer's: they are names of a recipe as well."""

        def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
            """Writes the settings by groups, after the options."""
            super().format_options(ctx, formatter)
            for title, records in help_records(verb).items():
                with formatter.section(title):
                    formatter.write_dl(records)

    return Trains


_VERBS = ((SFT, sft.sft), (REWARD, reward.reward), (PPO, ppo.ppo), (DPO, dpo.dpo))
for _verb, _function in _VERBS:
    app.command(_verb.name, cls=_takes_words(_verb), context_settings={"ignore_unknown_options": True})(
        _function
    )
