"""The models that are recommended can be named, are free, and their figures are possible."""

from __future__ import annotations

import pytest

from redraft.engines.load import ModelReference, parse_reference
from redraft.engines.recommended import BY_NAME, RECOMMENDED, Recommended, memory_of


@pytest.mark.parametrize("model", RECOMMENDED, ids=lambda model: str(model.ref))
def test_each_can_be_fetched_by_its_reference(model: Recommended) -> None:
    repo, _, selects = model.ref.partition(":")
    assert parse_reference(model.ref) == ModelReference("hub", repo, selects)
    assert memory_of(repo, selects) == model.memory
    assert model.licence in ("Apache-2.0", "MIT")
    bits = 8 * model.size / (1e9 * model.billions)
    assert 4 < bits < 9
    assert model.size < model.memory < 3 * model.size


def test_larger_ones_come_later() -> None:
    assert list(RECOMMENDED) == sorted(RECOMMENDED, key=lambda model: model.size)
    assert list(BY_NAME) == ["small", "medium", "large"]


def test_the_memory_of_other_models_is_not_known() -> None:
    assert memory_of("org/name", None) == 0
