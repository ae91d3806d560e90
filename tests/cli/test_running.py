"""The flags of a long run: as a verb gets them, and what stands in for those that are not given."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from redraft.cli.options import Given
from redraft.cli.parameters import takes
from redraft.cli.running import RunFlags
from redraft.runs.options import IN_BATCHES


def given(*words: str) -> tuple[Given, RunFlags, bool]:
    """What a verb receives for these words."""
    got: list[tuple[Given, RunFlags, bool]] = []
    app = typer.Typer()

    @app.command()
    @takes
    def verb(flags: Given, run: RunFlags, again: bool = False) -> None:
        got.append((flags, run, again))

    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return got[0]


def test_a_verb_gets_the_flags_of_a_run_together() -> None:
    flags, run, again = given("-j", "7", "--again", "--limit-usd", "2.5", "--batch", "--max-tokens", "9")
    assert flags == {"max_tokens": 9}
    assert run == RunFlags(parallel=7, batch=True, limit_usd=2.5)
    assert again
    assert given() == ({}, RunFlags(), False)


def test_what_is_not_given_comes_from_the_config_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    usual = RunFlags().plan(out)
    assert (usual.parallel, usual.quiet, RunFlags(batch=True).plan(out).parallel) == (4, False, IN_BATCHES)
    config = tmp_path / "config.toml"
    config.write_text("[defaults]\nparallel = 3\nquiet = true\n", encoding="utf-8")
    monkeypatch.setenv("REDRAFT_CONFIG", str(config))
    plans = [run.plan(out) for run in (RunFlags(), RunFlags(parallel=8), RunFlags(batch=True))]
    assert [plan.parallel for plan in plans] == [3, 8, IN_BATCHES]
    assert plans[0].quiet
