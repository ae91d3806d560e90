"""The pieces of benchmarks/ on tiny settings, with the scripted engine. Nothing here is timed or compared."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from redraft import ScriptedEngine


@pytest.fixture
def tiny(bench: Any) -> Any:
    return bench.measure.Size(rounds=2, questions=2, tokens=800, prompts=(2, 20), threads=1)


NATIVE = [
    "An answer.\n\n### Feedback 1:\nGood. Revision is not needed.",
    ".\n\n### Revision 1:\nA better answer.",
]


# Rows.


def test_the_loop_and_the_raw_engine_generate_the_same_tokens(bench: Any, tiny: Any) -> None:
    engine = ScriptedEngine(NATIVE, native=True)
    rates = asyncio.run(bench.row_overhead.measure_way(engine, "native", ["Why?", "How?"], tiny, 1))
    assert len(rates.ours) == 4
    assert [tokens for tokens, _ in rates.ours] == [tokens for tokens, _ in rates.theirs]


@pytest.mark.model
def test_the_command_that_is_compared_makes_its_chains(
    bench: Any, default_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / default_model.name).symlink_to(default_model)
    monkeypatch.setenv("REDRAFT_CACHE", str(tmp_path))
    size = bench.measure.Size(rounds=1, questions=2, tokens=8, prompts=(1, 2), threads=1)
    tokens, seconds = bench.row_chains.by_redraft(["Why is the sea salty?", "What is rain?"], size, 8)
    assert 2 <= tokens <= 16
    assert seconds > 0


# The peer: its loop, with a model of canned tokens. A token is a character, and 0 ends the text.


class Canned:
    """A model that goes on with a text; what is forced on it may change how."""

    end = 0

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.fed: list[int] = []
        self._left: list[str] = []

    def encode(self, text: str, *, start: bool) -> list[int]:
        return [1] * start + [ord(character) for character in text]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(chr(token) for token in tokens if token > 1)

    def feed(self, tokens: Sequence[int]) -> int:
        self.fed += tokens
        if len(tokens) > 1:
            self._left = list(self.texts.pop(0))
        return ord(self._left.pop(0)) if self._left else self.end

    def rewind(self, tokens: int) -> None:
        del self.fed[len(self.fed) - tokens :]


def test_the_peer_takes_a_phrase_back_and_goes_on(bench: Any) -> None:
    model = Canned("An answer. No revision is needed!", ", so: another.")
    text, tokens = bench.selfee_peer.write_chain(model, "Why?", revisions=1, limit=99)
    assert text == "An answer. Revision is needed, so: another."
    assert tokens == len("An answer. No revision is needed") + len(", so: another.")
    assert "".join(map(chr, model.fed[1:])) == "Why?" + text


# `redraft data`: what it is measured on and with.


PEER_TURNS = [
    ["gpt", "<p>Before.</p>"],
    ["human", "How?"],
    ["gpt", "<p>So: <b>thus</b></p><pre><div><span>py</span>Copy code<code>x  = 1\n</code></div></pre>"],
    ["human", "Thanks"],
]


def test_the_peer_cleans_as_released(bench: Any) -> None:
    peer = bench.data_clean_peer
    turns = [{"from": role, "value": value} for role, value in PEER_TURNS]
    [sample] = peer.clean_html({"id": "a", "conversations": turns})
    assert [turn["from"] for turn in sample["conversations"]] == ["human", "gpt"]
    assert sample["conversations"][1]["value"] == "So: **thus**\n\n```py\nx  = 1\n```"
    for wrong in (
        turns[1:2],
        [*turns[1:2], *turns[1:3]],
        [turns[1], {"from": "gpt", "value": "Ask ChatGPT."}],
    ):
        assert peer.clean_html({"id": "a", "conversations": wrong}) == []


def test_the_peer_loses_a_last_pair_that_overflows(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = bench.data_clean_peer
    monkeypatch.setattr(peer, "_tokenizer", lambda folder: lambda text: SimpleNamespace(input_ids=text))
    values = ["a" * 500, "b" * 500, "c" * 500, "d" * 500, "e" * 500, "f" * 500]
    sample = {"id": "a", "conversations": [{"from": "human", "value": value} for value in values]}
    said = [[turn["value"][0] for turn in piece["conversations"]] for piece in peer.split(sample, Path())]
    assert said == [["a", "b", "c", "d"]]


def test_our_decisions_are_those_of_rouge_score_and_a_wrong_one_is_counted(bench: Any) -> None:
    rouge = bench.data_rouge
    pool = ["Name three rivers of France.", "Write a poem about the rain in spring.", "Sort a list."]
    candidates = ["Write a poem about rain in the spring!", "Name three rivers in France", "Who are you?"]
    ours, theirs = rouge.near_in_redraft(pool), rouge.near_in_rouge_score(pool)
    _, differ, near = rouge.compare(ours, theirs, candidates)
    assert (differ, near) == (0, 2)
    assert rouge.compare(lambda text: ours(text) ^ {2}, theirs, candidates)[1] == 3


@pytest.mark.parametrize(
    "row", ["rouge", pytest.param("clean", marks=pytest.mark.model), "verbs", "minhash", "memory"]
)
def test_a_row_of_data_is_measured_and_leaves_nothing(
    bench: Any, row: str, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for peer in ("rouge_score", "markdownify", "datasets", "datasketch", "rensa"):
        pytest.importorskip(peer)
    monkeypatch.setenv("REDRAFT_SHARED", str(shared_data.parent))
    arguments = ["--quick", "--only", row, "--work", str(tmp_path)]
    assert bench.report.main("", "", bench.data.ROWS, room="", arguments=arguments) in (0, 1)  # not timed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing.:FutureWarning"
)  # peft asks transformers for it
@pytest.mark.parametrize(
    "row",
    [
        "speed",
        "whole",
        *(
            pytest.param(row, marks=pytest.mark.model)
            for row in ("memory", "equal", "quantised", "merged", "adapter")
        ),
    ],
)
def test_a_row_of_weights_is_measured_and_leaves_nothing(bench: Any, row: str, tmp_path: Path) -> None:
    arguments = ["--quick", "--only", row, "--work", str(tmp_path)]
    status = bench.report.main("", "", bench.weights.ROWS, room="", arguments=arguments)
    assert status in ((0, 1) if row in {"speed", "whole"} else (0,))  # tests are not timed
    assert list(tmp_path.iterdir()) == []


# The hf engine.


@pytest.mark.model
def test_the_hf_engine_is_measured_on_the_default_model(
    bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.report.main("", "", bench.apps_hf.ROWS, arguments=["--quick"]) in (0, 1)  # not timed
    assert "8 streams, float32" in capsys.readouterr().out
