"""`redraft train self`; tests/train/self walks the road."""

from __future__ import annotations

from dataclasses import asdict
from inspect import signature

from redraft.cli.train import self_
from redraft.train.self.road import Scale


def test_the_command_and_python_make_the_same_model_by_default() -> None:
    told = {name: each.default for name, each in signature(self_).parameters.items()}
    assert {name: told[name] for name in asdict(Scale())} == asdict(Scale())
