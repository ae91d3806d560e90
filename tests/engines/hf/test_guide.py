"""A random model writes anything. In a form it writes what passes, alone and in company."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
import tokenizers
import transformers

import redraft
from redraft.chain import Prompt
from redraft.checks.base import form_of, run_checks
from redraft.checks.parse import parse_check
from redraft.engines.base import Sampling
from redraft.engines.hf import batch
from redraft.engines.hf import engine as hf
from redraft.engines.hf.engine import HfEngine
from redraft.engines.steering.form import Form, joined
from redraft.engines.text import Tokenizer
from tests.engines.hf_folders import random_model, tokenizer
from tests.engines.talking import continued, run, said

CHECKS = ["lowercase", "starts:dear", "lacks:,"]
FITS = 80


def made() -> HfEngine:
    return HfEngine(random_model(), tokenizer(), name="toy", threads=1, parallel=3)


@pytest.fixture(scope="module")
def engine() -> Iterator[HfEngine]:
    opened = made()
    yield opened
    run(opened.aclose())


def form_for(*checks: str) -> Form:
    found = [(check, form_of(parse_check(check))) for check in checks]
    form, steered = joined((name, form) for name, form in found if form)
    assert len(steered) == len(checks)
    return form


def hot(seed: int, form: Form | None, tokens: int = FITS) -> Sampling:
    return Sampling(temperature=1.0, max_tokens=tokens, seed=seed, form=form)


@pytest.mark.parametrize("checks", [CHECKS, ["uppercase"], ["characters<=60", "lacks:a"]], ids=str)
def test_a_random_model_keeps_to_the_form(engine: HfEngine, checks: list[str]) -> None:
    form = form_for(*checks)

    async def texts() -> list[str]:
        asked = (continued(engine, "Rain?", hot(seed, form)) for seed in range(6))
        return [said(deltas) for deltas in await asyncio.gather(*asked)]

    for text in run(texts()):
        results = run(run_checks([*map(parse_check, checks)], text, Prompt(instruction="?")))
        assert all(result.passed for result in results), text


async def test_a_form_is_of_its_own_text_alone(engine: HfEngine) -> None:
    free = Sampling(temperature=1.0, max_tokens=30, seed=4)
    alone = await continued(engine, "Rain?", free)
    steered, beside = await asyncio.gather(
        continued(engine, "Rain?", hot(4, form_for("lacks:,"))), continued(engine, "Rain?", free)
    )
    assert said(alone) == said(beside) != said(steered)


def test_a_stop_string_ends_a_text_in_a_form(engine: HfEngine) -> None:
    text = said(run(continued(engine, "Rain?", hot(1, form_for("lacks:,")))))
    *_, last = run(continued(engine, "Rain?", hot(1, form_for("lacks:,")), (text[2:5],)))
    assert (last.finish, last.stop_text) == ("stop", text[2:5])


async def test_probabilities_are_the_models_own(engine: HfEngine) -> None:
    prompt = await engine.encode("Rain?", special=True)
    sampling = Sampling(0.0, max_tokens=20, form=form_for("lacks:,"), logprobs=True)
    deltas = await continued(engine, prompt, sampling)
    (scores,) = await engine.score([(*prompt, *(token for delta in deltas for token in delta.tokens))])
    found = [each for delta in deltas for each in delta.logprobs]
    assert found == pytest.approx(scores[len(prompt) - 1 :], abs=1e-3)


def test_a_chain_is_steered_and_says_so(engine: HfEngine) -> None:
    options = {"model": engine, "checks": CHECKS, "max_tokens": FITS, "max_revisions": 0, "seed": 3}
    chain = redraft.revise("Write.", **options)
    assert chain.steps[0].steered == tuple(CHECKS)
    assert [result.passed for result in chain.steps[0].checks] == [True] * 3, chain.answer
    plain = redraft.revise("Write.", **options, steer=False)
    assert (plain.steps[0].steered, plain.passed) == ((), False)


def test_without_llguidance_checks_only_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch.importlib.util, "find_spec", lambda _: None)
    opened = made()
    assert not opened.info.forms
    chain = redraft.revise("Write.", model=opened, checks=CHECKS, max_tokens=20, max_revisions=0, seed=1)
    assert chain.steps[0].steered == ()
    run(opened.aclose())


def test_a_grammar_that_llguidance_gives_up_is_left_out_and_it_is_said_once(
    engine: HfEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hf, "lark", lambda *_: "start: /((?s:.*)word){900}/ & /((?s:.*)rain){900}(?s:.*)/")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            chain = redraft.revise(
                "?", model=engine, checks=["lacks:,"], max_tokens=20, max_revisions=0, seed=1
            )
            assert 10 < chain.usage.completion_tokens <= 20
            assert chain.steps[0].steered == ()
    (record,) = caplog.records
    assert "checks cannot steer toy, only" in record.getMessage()


def test_a_tokenizer_that_does_not_spell_bytes_writes_without_a_form(
    engine: HfEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, "a"))
    other = transformers.PreTrainedTokenizerFast(tokenizer_object=words)
    monkeypatch.setattr(engine, "_tokenizer", Tokenizer(other, "wordy"))
    with caplog.at_level(logging.WARNING):
        deltas = run(continued(engine, (0,), hot(1, form_for("lacks:,"), 20)))
    assert deltas[-1].unsteered
    assert "checks cannot steer wordy, only" in caplog.text
