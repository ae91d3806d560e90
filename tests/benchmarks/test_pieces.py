"""The pieces of benchmarks/ on tiny settings, with the scripted engine. Nothing here is timed or compared."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from redraft import ScriptedEngine, arevise
from redraft.engines.base import Sampling
from tests.engines.hf_folders import random_model, tokenizer


@pytest.fixture
def tiny(bench: Any) -> Any:
    return bench.measure.Size(rounds=2, questions=2, tokens=800, prompts=(2, 20), threads=1)


# What is measured with.


def test_sides_take_turns_and_are_compared_pair_by_pair(bench: Any) -> None:
    order: list[str] = []

    async def side(name: str, tokens: int) -> tuple[int, float]:
        order.append(name)
        return tokens, 2.0

    rates = asyncio.run(bench.measure.alternate(3, lambda: side("a", 30), lambda: side("b", 10)))
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert rates.ratios() == (3.0, 3.0, 3.0)
    figure = rates.figure("it", bench.measure.Goal("≥", 3.5), "new", "old")
    assert figure.reached is False
    assert figure.sides == "new 15 tokens/s; old 5 tokens/s"


@pytest.mark.parametrize(("op", "value", "reached"), [("≥", 1.9, False), ("≥", 2, True), ("≤", 2.1, False)])
def test_a_goal_is_reached_by_the_median(bench: Any, op: str, value: float, reached: bool) -> None:
    figure = bench.measure.Figure("it", (0.1, value, 9.0), "s", bench.measure.Goal(op, 2.0))
    assert figure.reached is reached


# Requests that are written down and made again.

NATIVE = [
    "An answer.\n\n### Feedback 1:\nGood. Revision is not needed.",
    ".\n\n### Revision 1:\nA better answer.",
]
ENFORCED: Any = {"mode": "native", "min_revisions": 1, "max_revisions": 1, "max_tokens": 400}


def test_a_chain_made_again_from_its_requests_asks_and_costs_the_same(bench: Any) -> None:
    engine = ScriptedEngine(NATIVE, native=True)

    async def chain_and_replay() -> tuple[int, int]:
        recorded = await bench.row_overhead.record(engine, "Why?", ENFORCED)
        chain = await arevise("Why?", model=engine, **ENFORCED)
        return chain.usage.completion_tokens, await bench.taps.replay(engine, recorded.requests)

    tokens, again = asyncio.run(chain_and_replay())
    assert tokens == again > 0
    assert len(engine.calls) == 6
    assert engine.calls[0:2] == engine.calls[2:4] == engine.calls[4:6]


def test_a_replay_goes_on_from_what_came_this_time(bench: Any) -> None:
    other = [NATIVE[0].replace("An answer", "Something else"), NATIVE[1]]
    first, second = ScriptedEngine(NATIVE, native=True), ScriptedEngine(other, native=True)

    async def record_and_replay() -> None:
        recorded = await bench.row_overhead.record(first, "Why?", ENFORCED)
        await bench.taps.replay(second, recorded.requests)
        await arevise("Why?", model=second, **ENFORCED)

    asyncio.run(record_and_replay())
    assert second.calls[1] == second.calls[3] != first.calls[1]


def test_a_request_closed_early_is_closed_early_again(bench: Any) -> None:
    engine = ScriptedEngine(["abcdefghij"], chunk=1)
    request = bench.taps.Request("go", (), Sampling(), ())
    request.deltas = 3
    made = asyncio.run(bench.taps.replay_one(engine, request))
    assert (made.text, made.generated, made.ended) == ("abc", 3, None)


# Rows.


def test_the_loop_and_the_raw_engine_generate_the_same_tokens(bench: Any, tiny: Any) -> None:
    engine = ScriptedEngine(NATIVE, native=True)
    rates = asyncio.run(bench.row_overhead.measure_way(engine, "native", ["Why?", "How?"], tiny, 1))
    assert len(rates.ours) == 4
    assert [tokens for tokens, _ in rates.ours] == [tokens for tokens, _ in rates.theirs]


def test_the_peak_of_a_process_is_what_it_took(bench: Any) -> None:
    code = "import time; taken = b'x' * {}; del taken; time.sleep(0.2)"
    commands = [[sys.executable, "-c", code.format(size)] for size in (1, 60_000_000)]
    small, large = map(bench.row_process.peak_of, commands)
    assert 58 <= large - small < 70


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
        self.decoded: list[int] = []
        self._left: list[str] = []

    def encode(self, text: str, *, start: bool) -> list[int]:
        return [1] * start + [ord(character) for character in text]

    def decode(self, tokens: Sequence[int]) -> str:
        self.decoded.append(len(tokens))
        return "".join(chr(token) for token in tokens if token > 1)

    def feed(self, tokens: Sequence[int]) -> int:
        self.fed += tokens
        if len(tokens) > 1:
            self._left = list(self.texts.pop(0))
        return ord(self._left.pop(0)) if self._left else self.end

    def rewind(self, tokens: int) -> None:
        del self.fed[len(self.fed) - tokens :]


def test_the_peer_ends_with_the_models_text(bench: Any) -> None:
    model = Canned("An answer. No revision is needed.")
    text, tokens = bench.selfee_peer.write_chain(model, "Why?", revisions=0, limit=99)
    assert (text, tokens) == ("An answer. No revision is needed.", 33)


def test_the_peer_takes_a_phrase_back_and_goes_on(bench: Any) -> None:
    model = Canned("An answer. No revision is needed!", ", so: another.")
    text, tokens = bench.selfee_peer.write_chain(model, "Why?", revisions=1, limit=99)
    assert text == "An answer. Revision is needed, so: another."
    assert tokens == len("An answer. No revision is needed") + len(", so: another.")
    assert "".join(map(chr, model.fed[1:])) == "Why?" + text


def test_the_peer_decodes_everything_for_every_token(bench: Any) -> None:
    model = Canned("abcdef")
    text, tokens = bench.selfee_peer.write_chain(model, "Why?", revisions=1, limit=4)
    assert (text, tokens) == ("abcd", 4)
    assert model.decoded[1:5] == [6, 7, 8, 9]


# `redraft weights`: what it is measured on and with.


def test_a_command_is_watched_with_what_it_starts(bench: Any) -> None:
    hold = "b = b'x' * 50_000_000; import time; time.sleep(0.3)"
    both = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {hold!r}]); {hold}; p.wait()"
    took = bench.weights_run.run_command([sys.executable, "-c", both])
    assert 100e6 < took.anonymous < 180e6
    assert took.seconds > 0.3


def test_a_command_that_fails_says_why(bench: Any) -> None:
    with pytest.raises(RuntimeError, match=r"ended with 3:\n(.*\n)*.*no-such-file"):
        bench.weights_run.weights("convert", "no-such-file", "-o", "out")


def test_bits_are_compared_and_not_values(bench: Any) -> None:
    zero = np.zeros(3, dtype=np.float32)
    assert bench.weights_gguf.same_bits(zero, zero.copy())
    assert not bench.weights_gguf.same_bits(zero, -zero)
    assert not bench.weights_gguf.same_bits(zero, zero[:2])


# `redraft data`: what it is measured on and with.


@pytest.fixture
def conversations(bench: Any, shared_data: Path) -> Any:
    return bench.data_material.Conversations(shared_data)


def test_instructions_are_the_same_for_a_seed_and_about_as_near_as_asked(
    bench: Any, shared_data: Path
) -> None:
    material = bench.data_material
    made = list(material.instructions(shared_data, 3_000))
    assert made == list(material.instructions(shared_data, 3_000))
    assert made[:500] == list(material.instructions(shared_data, 500))
    assert made != list(material.instructions(shared_data, 3_000, seed=5))
    assert 8 < sum(len(text.split()) for text in made) / len(made) < 25
    near = bench.data_minhash.exact_pairs(made)
    assert len(bench.data_minhash.exact_pairs(list(material.instructions(shared_data, 3_000, near=0)))) < 20
    assert 200 < len(near) < 2_000


def test_a_conversation_can_be_made_again_and_holds_its_code(conversations: Any, tmp_path: Path) -> None:
    for number in range(40):
        made = conversations.make(number)
        assert made == conversations.make(number) != conversations.make(number + 1)
        html = "".join(turn["value"] for turn in made.record["conversations"] if turn["from"] == "gpt")
        shown = {
            code.text.removesuffix("\n") for code in BeautifulSoup(html, "html.parser").select("pre code")
        }
        assert shown <= {block.code for block in made.blocks}


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=9).map(" ".join), max_size=12))
def test_counting_finds_the_pairs_that_comparing_finds(bench: Any, texts: list[str]) -> None:
    minhash = bench.data_minhash
    sets = [minhash.shingles(text) for text in texts]
    pairs = {
        (a, b)
        for b in range(len(sets))
        for a in range(b)
        if sets[a] & sets[b] and len(sets[a] & sets[b]) / len(sets[a] | sets[b]) >= 0.8
    }
    assert minhash.exact_pairs(texts) == pairs


PEER_TURNS = [
    ["gpt", "<p>Before.</p>"],
    ["human", "How?"],
    [
        "gpt",
        "<p>So: <b>thus</b></p><pre><div><span>py</span>Copy code<code>x  = 1\n</code></div></pre>",
    ],
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
    pieces = peer.split(sample, Path())
    said = [[turn["value"][0] for turn in piece["conversations"]] for piece in pieces]
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
    "row", ["rouge", "pool", pytest.param("clean", marks=pytest.mark.model), "minhash", "memory"]
)
def test_a_row_of_data_is_measured_and_leaves_nothing(
    bench: Any, row: str, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for peer in ("rouge_score", "markdownify", "datasketch"):
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


@pytest.mark.parametrize("streams", [1, 3])
def test_both_sides_of_the_hf_engine_make_all_their_tokens(bench: Any, streams: int) -> None:
    both = bench.apps_hf.Loaded(random_model(), tokenizer())
    asked = ["Why?", "How does rain fall?", "When?"][:streams]
    ours, _ = asyncio.run(bench.apps_hf.by_redraft(both, asked, 5))
    theirs, _ = bench.apps_hf.by_transformers(both, asked, 5)
    assert ours == theirs == 5 * streams


@pytest.mark.model
def test_the_hf_engine_is_measured_on_the_default_model(
    bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.report.main("", "", bench.apps_hf.ROWS, arguments=["--quick"]) in (0, 1)  # not timed
    assert "8 streams, float32" in capsys.readouterr().out
