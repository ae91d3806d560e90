"""The property `form` of a check, which may be the user's: it may be wrong, raise or hang."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import redraft
from redraft.chain import Prompt
from redraft.checks.base import Outcome, failed, form_of, passed
from redraft.checks.parse import parse_check
from redraft.engines.steering.form import Form
from redraft.revision import watch


class Own:
    def __init__(self, name: str, form: Any) -> None:
        self.name, self._form = name, form
        self.asked = 0

    @property
    def form(self) -> Any:
        self.asked += 1
        if isinstance(self._form, BaseException):
            raise self._form
        return self._form() if callable(self._form) else self._form

    def check(self, answer: str, prompt: Prompt) -> Outcome:
        return passed("Good.") if "rain" in answer else failed("There is no rain.")


@pytest.mark.parametrize(
    "form",
    [KeyError("x"), SystemExit(3), Form(case="title"), Form(has=5), Form(limits=("a", 3)), Form(closing=5)],  # type: ignore[arg-type]
)
def test_a_form_that_fails_is_told_once(form: Any, caplog: pytest.LogCaptureFixture) -> None:
    check = Own(f"own-form-{form!r}", form)
    assert [form_of(check), form_of(check)] == [None, None]
    assert check.asked == 1
    assert [message.startswith("the form of the check") for message in caplog.messages] == [True]


@pytest.mark.parametrize("form", ["rain", None, 5])
def test_an_attribute_of_that_name_is_left_alone(form: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert form_of(Own(f"other-{form!r}", form)) is None
    assert not caplog.messages


def test_a_form_that_hangs_steers_nothing_and_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "FORM_SECONDS", 0.2)
    hangs = Own("own-hangs", lambda: time.sleep(5))
    checks = [parse_check("lacks:sun"), hangs]
    for _ in range(2):
        assert [name for name, _ in asyncio.run(watch.forms_of(checks))] == ["lacks:sun"]
    assert hangs.asked == 1
    assert [message.endswith("0.2 s. This attribute is not used again.") for message in caplog.messages] == [
        True
    ]


@pytest.mark.slow
@pytest.mark.model
def test_a_form_that_lies_leaves_the_verdict_to_the_check() -> None:
    check = Own("own-lies", Form(lacks=("rain",)))
    chain = redraft.revise("Name something wet.", checks=[check], max_tokens=30, max_revisions=0)
    assert chain.steps[0].steered == ("own-lies",)
    assert not chain.passed
