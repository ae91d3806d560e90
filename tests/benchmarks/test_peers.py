"""The table of docs/peers.md is what the tries found, and is honest about what redraft lacks."""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.fixture
def found(bench: Any) -> dict[str, Any]:
    return dict(json.loads(bench.peers.FOUND.read_text("utf-8")))


def test_the_page_is_what_was_found(bench: Any, found: dict[str, Any]) -> None:
    assert bench.peers.PAGE.read_text("utf-8") == bench.peers.page(found)


def test_it_is_wide(bench: Any, found: dict[str, Any]) -> None:
    features = {feature for group in bench.peers.FEATURES.values() for feature in group}
    assert len(features) >= 40
    assert len(found) >= 10
    for peer in found.values():
        assert peer["cells"].keys() == features
        assert peer["version"]
        assert peer["date"]


def test_some_do_what_redraft_does_not(found: dict[str, Any]) -> None:
    """The features were not chosen for redraft alone."""
    own = found["redraft"]["cells"]
    better = {
        feature
        for peer in found.values()
        for feature, cell in peer["cells"].items()
        if cell["cell"] == "yes" and own[feature]["cell"] in ("no", "partly")
    }
    assert len(better) >= 5


def test_a_cell_that_was_not_tried_says_so(bench: Any, found: dict[str, Any]) -> None:
    for name, peer in found.items():
        for feature, cell in peer["cells"].items():
            assert cell["cell"] in ("yes", "partly", "no", "?")
            if cell["note"].endswith("not tried"):
                assert cell["cell"] == "?", (name, feature)
