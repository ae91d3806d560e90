"""A fix mends the form of an answer, changes none that passes, and nothing when it is done again."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.chain import Prompt, is_blank
from redraft.verify import mend
from redraft.verify.base import Check, Fixing, Outcome, fix_of, passed, run_checks
from redraft.verify.ifeval_fix import WAYS
from redraft.verify.mend import in_turn, mended_by
from redraft.verify.output import from_type
from redraft.verify.parse import parse_check
from tests.verify.test_prefix import TEXTS

IFEVAL = [
    "detectable_format:json_format",
    'combination:repeat_prompt {"prompt_to_repeat": "The light. One"}',
    'startend:end_checker {"end_phrase": "Any other questions?"}',
    "startend:quotation",
    "change_case:english_capital",
    "change_case:english_lowercase",
]
CHECKS = [
    *("json", "keys:a", "starts:The light.", "starts:Dear", "ends:The end", "ends:.", "ends:so!", 'lacks:"'),
    *("2*ends:Bye.", "all(ends:Bye.; ends:Yours)", "all(ends:Bye.; ifeval:startend:quotation)", "words<=3"),
    *(f"ifeval:{written}" for written in IFEVAL),
]
MORE = st.sampled_from(
    ['{"a": 1}', "[1]", "Bye", "The end", "The light.", "“", "”", "```js\n", "The rain is wet"]
)
ANSWERS = (
    st.lists(TEXTS | MORE, max_size=4).map("".join).map(str.strip).filter(lambda text: not is_blank(text))
)


def passes(check: Check, answer: str) -> bool:
    (result,) = asyncio.run(run_checks([check], answer, Prompt(instruction="Say.")))
    return result.passed


@pytest.mark.parametrize("written", CHECKS)
@settings(max_examples=settings().max_examples // 2)
@given(answer=ANSWERS)
def test_a_fix_changes_nothing_that_passes_and_nothing_twice(written: str, answer: str) -> None:
    check = parse_check(written)
    mended = fix_of(check, answer)
    assert fix_of(check, mended) == mended
    if passes(check, answer):
        assert mended == answer
    elif mended != answer and not written.startswith(("all", "keys")):
        assert passes(check, mended)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(written=st.lists(st.sampled_from(CHECKS), min_size=1, max_size=3), answer=ANSWERS)
def test_several_checks_together_neither(written: list[str], answer: str) -> None:
    checks = [parse_check(each) for each in written]
    mended = in_turn(checks, answer)
    assert in_turn(checks, mended) == mended
    if all(passes(check, answer) for check in checks):
        assert mended == answer


OBJECT = '{"a": [1, 2]}'
MENDED = [
    ("json", f"```python\n{OBJECT}\n```", OBJECT),
    ("json", f"```json\n{OBJECT}", OBJECT),
    ("json", f"{OBJECT}\n```", OBJECT),
    ("json", f"~~~\n{OBJECT}\n~~~", OBJECT),
    ("json", f"Here it is:\n```\n{OBJECT}\n```\nThat is all.",
     f"Here it is:\n```json\n{OBJECT}\n```\nThat is all."),
    ("json", f"Here:\n```json\n{OBJECT}", f"Here:\n```json\n{OBJECT}\n```"),
    ("json", f"Sure: {OBJECT} Bye.", f"Sure:\n```json\n{OBJECT}\n```\nBye."),
    ("keys:b", f"Sure: {OBJECT}", f"Sure:\n```json\n{OBJECT}\n```"),
    ('lacks:"', '"Rain is wet."', "Rain is wet."),
    ("starts:Dear", '"Dear Ann, it rains."', "Dear Ann, it rains."),
    ("starts:Dear Ann,", "It rains.", "Dear Ann,\n\nIt rains."),
    ("ends:The end.", "It rains.", "It rains.\n\nThe end."),
    ("ends:The end", "It rains.\n\n**The end.**", "It rains.\n\n**The end"),
    ("ends:stay dry", "So stay dry!", "So stay dry"),
    ("ends:stay dry.", "So stay dry!", "So stay dry."),
    ("2*ends:.", "It rains", "It rains."),
    ("all(ends:Bye.; starts:Hi.)", "It rains.", "Hi.\n\nIt rains.\n\nBye."),
    ("ifeval:startend:quotation", "“Rain is wet.”", '"Rain is wet."'),
    ("ifeval:startend:quotation", 'He said "no" twice.', '"He said "no" twice."'),
    ("ifeval:" + IFEVAL[0], f"```js\n{OBJECT}\n```", OBJECT),
    ("ifeval:" + IFEVAL[1], "It shines.", "The light. One\n\nIt shines."),
    ("ifeval:" + IFEVAL[2], "It shines.", "It shines.\n\nAny other questions?"),
    ("ifeval:" + IFEVAL[4], "The rain in this town is wet.", "THE RAIN IN THIS TOWN IS WET."),
    ("ifeval:" + IFEVAL[5], "The rain in this town is wet.", "the rain in this town is wet."),
]  # fmt: skip


@pytest.mark.parametrize(("written", "answer", "mended"), MENDED)
def test_what_is_mended(written: str, answer: str, mended: str) -> None:
    check = parse_check(written)
    assert not passes(check, answer)
    assert fix_of(check, answer) == mended


def test_every_way_is_tried_here() -> None:
    assert {written.split(" ")[0] for written in IFEVAL} == set(WAYS)


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("json", '{"a": 1} or {"a": 2}'),
        ("json", "Rain falls in spring [1] and in autumn [2]."),
        ("json", "Rain falls in spring [1]."),
        ("json", "```\n{a: 1}\n```"),
        ("json", "```\n{}\n```\nor\n```\n[]\n```"),
        ("keys:b", OBJECT),  # what it lacks is content
        ("starts:The", "Rain is wet."),
        ("ends:in the rain", "It pours."),
        ("ends:.", "!"),
        ('lacks:"', '"Rain" is "wet"'),
        ("ifeval:startend:quotation", '"No," he said.'),
        ("ifeval:" + IFEVAL[1], "The light. Two more times: it shines."),
        ("ifeval:" + IFEVAL[4], "Der Regen in dieser Stadt ist nass."),
        ("ifeval:punctuation:no_comma", "Take 1, 2, 3 and rain, snow, hail."),
        ("words<=2", "It rains again."),
        ("any(ends:Bye.; json)", "It rains."),  # it is not known which is meant
        ("all(ends:Bye.; ends:Yours)", "It rains."),
        ("command:false", "It rains."),
    ],
)
def test_what_is_not_mended(written: str, answer: str) -> None:
    check = parse_check(written)
    assert not passes(check, answer)
    assert fix_of(check, answer) == answer


def test_output_is_mended_too() -> None:
    check = from_type(dict[str, list[int]])
    assert isinstance(check, Fixing)
    assert json.loads(check.fix(f"```python\n{OBJECT}\n```")) == {"a": [1, 2]}


class Own:
    def __init__(self, name: str, says: Any) -> None:
        self.name, self.says, self.asked = name, says, 0

    def check(self, answer: str, prompt: Prompt) -> Outcome:
        return passed("Fine.")

    def fix(self, answer: str) -> Any:
        self.asked += 1
        if isinstance(self.says, BaseException):
            raise self.says
        return self.says(answer) if callable(self.says) else self.says


@pytest.mark.parametrize(
    ("says", "fault"),
    [(KeyError("x"), "crashed: "), (SystemExit(3), "crashed: "), (7, "7, which is no text")],
)
def test_a_fix_that_fails_is_told_once_and_not_asked_again(
    says: Any, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    check = Own(f"own-{says!r}", says)
    assert [fix_of(check, "a"), fix_of(check, "ab")] == ["a", "ab"]
    assert check.asked == 1
    assert len(caplog.messages) == 1
    assert fault in caplog.text


def test_a_fix_that_never_ends_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import threading

    monkeypatch.setattr(mend, "SECONDS", 0.05)
    release = threading.Event()
    check = Own("own-hangs", lambda answer: str(release.wait(5)))
    assert asyncio.run(mended_by([check], "a")) == "a"
    release.set()
    assert "took longer than 0.05 s" in caplog.text


def test_a_fix_that_grows_without_end_mends_nothing() -> None:
    assert in_turn([Own("own-grows", lambda answer: answer + "!")], "a") == "a"
