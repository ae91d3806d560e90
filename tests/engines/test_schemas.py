r"""Patterns of a schema are written out for servers, which drop `\d` and the like without a word."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.engines.schemas import plain, with_plain_patterns

FREE = r'[^"\\\x01-\x1F]'


@pytest.mark.parametrize(
    ("pattern", "everywhere", "for_llamacpp"),
    [
        (r"^\d{4}$", "^[0-9]{4}$", "^[0-9]{4}$"),
        (r"\d{4}", "[0-9]{4}", f"^{FREE}*[0-9]{{4}}{FREE}*$"),
        (r"^[\d\.\-]{5}$", "^[0-9.-]{5}$", "^[0-9.-]{5}$"),
        (r"^\d\-\d\/\.$", r"^[0-9]-[0-9]/\.$", r"^[0-9]-[0-9]/\.$"),
        (r"^[\w-.]$", "^[0-9A-Za-z_À-ÖØ-öø-῿Ⰰ-퟿.-]$", "^[0-9A-Za-z_À-ÖØ-öø-῿Ⰰ-퟿.-]$"),
        (r"^\D.$", "^[^0-9].$", rf'^[^0-9"\\\x01-\x1F]{FREE}$'),
        (r"^[^,]+$", "^[^,]+$", r'^[^"\\\x01-\x1F,]+$'),
        ("cat|dog", "cat|dog", f"^{FREE}*(cat|dog){FREE}*$"),
        (r"^(?:ab)+\d$", "^(ab)+[0-9]$", "^(ab)+[0-9]$"),
        (r"^#\d", "^#[0-9]", f"^#[0-9]{FREE}*$"),
        ("^a|b$", "^a|b$", "^a|b$"),
        (r"\bfoo\b", r"\bfoo\b", r"\bfoo\b"),
        (r"^[^\S]$", r"^[^\S]$", r"^[^\S]$"),
        (r"^a\$", r"^a\$", rf"^a\${FREE}*$"),
    ],
)
def test_shorthands_are_written_out(pattern: str, everywhere: str, for_llamacpp: str) -> None:
    assert plain(pattern, llamacpp=False) == everywhere
    assert plain(pattern, llamacpp=True) == for_llamacpp


PIECES = [
    r"\d", r"\w", r"\s", r"\D", "a", "é", ".", r"\.", r"\/",
    "[a-c]", r"[\w.-]", r"[-\d]", r"[^\s,]", "(?:a|1)",
]  # fmt: skip


@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join),
    st.tuples(st.sampled_from(["", "^"]), st.sampled_from(["", "$"])),
    st.text("ab1é .,-/", max_size=6),
    st.booleans(),
)
def test_a_written_out_pattern_takes_the_same_texts(
    middle: str, ends: tuple[str, str], text: str, llamacpp: bool
) -> None:
    pattern = middle.join(ends)
    assert bool(re.search(plain(pattern, llamacpp=llamacpp), text)) == bool(re.search(pattern, text))


def test_only_patterns_change_wherever_they_stand() -> None:
    year = {"type": "string", "pattern": r"^\d{4}$", "description": r"\d"}
    plain_year = {**year, "pattern": "^[0-9]{4}$"}

    def around(part: Any) -> Any:
        listed = {"type": "array", "items": {"anyOf": [part, {"type": "null"}]}}
        return {"properties": {"pattern": listed}, "$defs": {"Year": part}, "const": {"pattern": r"\d"}}

    assert with_plain_patterns(around(year), llamacpp=True) == around(plain_year)
