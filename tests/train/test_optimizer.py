from __future__ import annotations

from pathlib import Path

import pytest

from redraft.errors import UsageError
from redraft.train.machine import training_arguments
from redraft.train.settings import parse
from redraft.train.trained import check_optimizer


def insist(*words: str) -> None:
    settings = parse(["--output_dir", "out", "--bf16", "False", *words])
    check_optimizer(training_arguments(settings, lora=False, say=lambda _: None))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--optim", "adafactor"],
        ["--optim", "sgd", "--lr_scheduler_type", "constant_with_warmup"],
        ["--lr_scheduler_type", "cosine_with_min_lr", "--lr_scheduler_kwargs", '{"min_lr_rate": 0.1}'],
        ["--lr_scheduler_type", "reduce_lr_on_plateau", "--eval_strategy", "steps"],
    ],
)
def test_what_can_be_made(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    insist(*words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "instead"),
    [("lomo", "adafactor"), ("adalomo", "adafactor"), ("galore_adamw_layerwise", "galore_adamw")],
)
def test_updates_during_the_backward_pass_are_refused(name: str, instead: str) -> None:
    """The guards check gradients before they become weights."""
    with pytest.raises(UsageError, match=f"--optim {name} is not supported") as error:
        insist("--optim", name)
    assert error.value.hint == f"--optim {instead}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--optim", "galore_adamw"], "--optim galore_adamw cannot be used: "),
        (["--optim", "adamw_anyprecision"], "--optim adamw_anyprecision cannot be used: "),
        (["--optim_args", "foo"], "--optim_args foo cannot be used: "),
        (["--adam_beta1", "2"], "cannot be used: Invalid beta parameter"),
        (["--lr_scheduler_type", "cosine_with_min_lr"], "--lr_scheduler_type cosine_with_min_lr cannot be"),
        (["--lr_scheduler_type", "warmup_stable_decay"], "num_decay_steps"),
        (["--lr_scheduler_kwargs", '{"no": 1}'], "--lr_scheduler_kwargs {'no': 1} cannot be used: "),
        (["--lr_scheduler_kwargs", '{"num_cycles": "x"}'], "cannot be used: "),
    ],
)
def test_what_cannot_is_named(words: list[str], said: str) -> None:
    with pytest.raises(UsageError) as error:
        insist(*words)
    assert said in error.value.message
    assert "own settings" in str(error.value.hint)
