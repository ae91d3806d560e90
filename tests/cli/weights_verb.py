"""`redraft weights` in this process, and the two models that most of its tests begin with."""

from __future__ import annotations

from pathlib import Path

from typer.testing import Result

from tests.cli.verbs import redraft
from tests.weights.model_files import CONFIG, llama, save, tuned


def weights(*args: object) -> Result:
    return redraft("weights", *args)


def base_and_target(folder: Path) -> Path:
    save(folder / "base", llama(), files=2, config=CONFIG)
    save(folder / "target", tuned(llama()), files=2, config=CONFIG)
    return folder
