"""Chains by a model of transformers that has learnt to write them: the loop, the driver and the command."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from redraft.chain import Chain
from redraft.chain.selfee import parse
from redraft.cli import app
from redraft.engines.hf.engine import HfEngine
from redraft.revision.api import arevise
from tests.engines.hf_folders import ASKED, CHAIN, FORCED, folder, learnt, tokenizer


@pytest.fixture(scope="module")
def engine() -> Iterator[HfEngine]:
    opened = HfEngine(learnt(), tokenizer(), name="toy", threads=1, parallel=3, native=True)
    yield opened
    asyncio.run(opened.aclose())


def chain_of(engine: HfEngine, **settings: Any) -> Chain:
    return asyncio.run(arevise(ASKED, model=engine, temperature=0.0, **settings))


def answers(text: str) -> list[str]:
    return [step.answer for step in parse(text).steps]


def test_it_writes_its_chain(engine: HfEngine) -> None:
    chain = chain_of(engine)
    assert [step.answer for step in chain.steps] == answers(CHAIN)
    assert chain.stop == "accepted"
    assert chain.model == {"name": "toy", "engine": "hf", "format": "float32", "revision_mode": "native"}
    assert chain.usage.completion_tokens == len(tokenizer()(CHAIN).input_ids) + 1


def test_a_forced_revision_goes_on_from_the_tokens_before_the_cut(engine: HfEngine) -> None:
    chain = chain_of(engine, min_revisions=2)
    assert [step.answer for step in chain.steps] == answers(FORCED)
    assert chain.stop == "accepted"
    # All but the forced words, and the newest token, was in the cache.
    assert chain.usage.prompt_tokens - chain.usage.cached_tokens < 40


def ask(*args: str) -> Result:
    return CliRunner().invoke(app, ["ask", ASKED, "--quiet", "--temperature", "0", *args])


def test_a_folder_is_asked(tmp_path: Path) -> None:
    learnt().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    done = ask("--model", str(tmp_path), "--mode", "native")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "Rain falls from clouds.\n", "")


def test_what_is_wrong_with_a_folder_is_said_without_a_traceback(tmp_path: Path) -> None:
    made = folder(tmp_path / "toy")
    (made / "tokenizer.json").unlink()
    done = ask("--model", str(made))
    assert done.exit_code == 3
    assert done.stderr.startswith(f"redraft: {made} has no tokenizer: ")
    assert "Traceback" not in done.stderr
