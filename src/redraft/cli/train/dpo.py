"""`redraft train dpo`: a model learns from preferences directly, without a reward model, with TRL's loss."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from redraft.cli.train.running import TrainCommand, Words, run, try_result
from redraft.errors import MissingExtra
from redraft.train.settings.options import DPO

if TYPE_CHECKING:
    from redraft.train.stages import Stages


def dpo(words: Words = None) -> None:
    """Train a model on preferences directly, with TRL's DPO.

    The chosen answer of each pair becomes likelier and the rejected one less likely, compared with the model
    as it was. The data are those of `redraft train reward`. Recipes, flags and resuming are as in
    `redraft train sft`. It needs the extra 'dpo'.
    """
    run(TrainCommand(DPO, _stages, lambda *_: None, lambda *_: None, try_result), words)


def _stages() -> Stages[Any]:
    if find_spec("trl") is None:
        raise MissingExtra("redraft train dpo", "dpo")
    from redraft.train.dpo import DPO_STAGES

    return DPO_STAGES
