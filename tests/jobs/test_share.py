"""Shares: each id in exactly one, whoever counts, and numbers as those who start processes give them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.errors import UsageError
from redraft.jobs.share import Share, share_of

ARRAY = {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "8"}


@given(st.text(), st.integers(1, 50))
def test_each_id_is_in_one_share(name: str, count: int) -> None:
    assert sum(Share(index, count).holds(name) for index in range(count)) == 1


def test_shares_are_about_as_large_as_each_other() -> None:
    held = [sum(Share(index, 8).holds(f"prompts/{n}") for n in range(8000)) for index in range(8)]
    assert min(held) > 900
    assert max(held) < 1100


def test_a_share_has_files_of_its_own() -> None:
    assert Share(3, 8).path(Path("a/out.jsonl")) == Path("a/out-00003-of-00008.jsonl")
    assert Share(0, 2).path(Path("runs")) == Path("runs-00000-of-00002")


@pytest.mark.parametrize(
    ("text", "environ", "share"),
    [
        ("0/1", {}, "0/1"),
        ("7/8", {"RANK": "1", "WORLD_SIZE": "2"}, "7/8"),
        ("auto", {"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, "1/2"),
        ("auto", {"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, "3/4"),
        ("auto", {**ARRAY, "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_PROCID": "0"}, "4/8"),
        ("auto/5", {"JOB_COMPLETION_INDEX": "4"}, "4/5"),
        ("auto", {"SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_NODES": "2"}, "1/2"),
        ("auto", {"SKYPILOT_JOB_RANK": "9", "SKYPILOT_NUM_JOBS": "10", "SKYPILOT_NODE_RANK": "0"}, "9/10"),
    ],
)
def test_a_share_as_it_is_given(text: str, environ: dict[str, str], share: str) -> None:
    assert str(share_of(text, environ)) == share


@pytest.mark.parametrize(
    ("text", "environ", "said"),
    [
        ("9/8", {}, "0/8 to 7/8"),
        ("8/8", {}, "numbered from 0"),
        ("1/1", {}, "0/1."),
        ("0/0", {}, "1 to 99,999"),
        ("-1/8", {}, "--shard 0/8"),
        ("3", {}, "--shard 0/8"),
        ("auto", {}, "JOB_COMPLETION_INDEX"),
        ("auto", {"JOB_COMPLETION_INDEX": "4"}, "--shard auto/8"),
        ("auto/4", {"RANK": "1", "WORLD_SIZE": "8"}, "8 processes run"),
        ("auto", {"RANK": "one", "WORLD_SIZE": "8"}, "RANK is 'one'"),
        ("auto", {**ARRAY, "SLURM_ARRAY_TASK_COUNT": "3"}, "part of an array"),
        ("auto", {f"SLURM_ARRAY_TASK_{n}": "1" for n in ("ID", "MIN", "MAX", "COUNT")}, "part of an array"),
    ],
)
def test_what_is_no_share_is_refused(text: str, environ: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        share_of(text, environ)
    assert said in f"{caught.value.message} {caught.value.hint}"
