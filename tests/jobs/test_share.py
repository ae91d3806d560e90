"""Shares: each id in exactly one, whoever counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.errors import UsageError
from redraft.jobs.share import Share, share_of


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
    ("text", "said"),
    [
        ("9/8", "0/8 to 7/8"),
        ("1/1", "0/1."),
        ("0/0", "1 to 99,999"),
        ("-1/8", "--shard 0/8"),
        ("auto", "--shard 0/8"),
    ],
)
def test_what_is_no_share_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        share_of(text)
    assert said in f"{caught.value.message} {caught.value.hint}"
