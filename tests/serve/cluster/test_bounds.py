"""How many at once."""

from __future__ import annotations

import pytest

from redraft.errors import UsageError
from redraft.serve.cluster.bounds import Bounds


@pytest.mark.parametrize(("text", "bounds"), [("8", (8, 8)), ("2-8", (2, 8)), ("1-1", (1, 1))])
def test_bounds(text: str, bounds: tuple[int, int]) -> None:
    assert Bounds.read(text, "--actors") == bounds


@pytest.mark.parametrize("text", ["0", "0-2", "8-2", "many", "-3", "1-", "", "9" * 5000])
def test_no_bounds(text: str) -> None:
    with pytest.raises(UsageError, match="--actors is"):
        Bounds.read(text, "--actors")


def test_replicas_that_may_sleep() -> None:
    assert Bounds.read("0-4", "--replicas", lowest=0) == (0, 4)
    with pytest.raises(UsageError, match="--replicas is '0'"):
        Bounds.read("0", "--replicas", lowest=0)
