"""The pieces of benchmarks/ on tiny settings, with the scripted engine. Nothing here is timed or compared.

The benchmarks are scripts whose folder Python puts on its path when one is started; these tests do the same.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft import ScriptedEngine, arevise
from redraft.engines.base import Sampling
from redraft.formats.selfee import DONE_PHRASES
from redraft.verify.parse import parse_check
from redraft.weights.checkpoint import open_checkpoint
from tests.engines.hf_folders import random_model, tokenizer

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """All modules of the folder by name, gone from the interpreter afterwards."""
    # A peer needs the environment that its script makes for it.
    names = [path.stem for path in FOLDER.glob("*.py") if path.stem != "ppo_peer"]
    sys.path.insert(0, str(FOLDER))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    sys.path.remove(str(FOLDER))
    for name in names:
        del sys.modules[name]


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


def test_blocks_go_round(bench: Any) -> None:
    assert list(bench.measure.blocks(["a", "b", "c"], 2, 3)) == [["a", "b"], ["c", "a"], ["b", "c"]]


@pytest.mark.parametrize(
    ("text", "share"), [((1, 2, 3, 4), 1.0), ((9, 1, 2, 3, 4, 9, 9, 9), 0.5), ((1, 2, 3, 9), 0.0), ((), 0.0)]
)
def test_copied_tokens_lie_in_runs_of_the_source(bench: Any, text: Sequence[int], share: float) -> None:
    assert bench.material.copied_share(text, (7, 1, 2, 3, 4, 5)) == share


@given(source=st.lists(st.integers(0, 3), min_size=4), start=st.integers(0, 9))
def test_a_part_of_a_text_is_a_copy(bench: Any, source: list[int], start: int) -> None:
    part = source[min(start, len(source) - 4) :]
    assert bench.material.copied_share(part, source) == 1.0


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


def test_a_replayed_talk_shows_what_was_said_this_time(bench: Any) -> None:
    options: Any = {"mode": "verified", "checks": ["words<=2"], "max_revisions": 1, "tell_checks": False}
    first, second = (
        ScriptedEngine(["One two three.", "One two."]),
        ScriptedEngine(["Four five six.", "Four."]),
    )

    async def record_and_replay() -> None:
        recorded = await bench.row_overhead.record(first, "Count.", options)
        await bench.taps.replay(second, recorded.requests)

    asyncio.run(record_and_replay())
    assert [message["content"] for message in second.calls[1]][:2] == ["Count.", "Four five six."]


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


@pytest.mark.parametrize(("revision", "copies"), [("{draft} Thank you.", True), ("{other}", False)])
def test_only_revisions_that_copy_are_measured(bench: Any, revision: str, copies: bool) -> None:
    draft, other = "The sea is wide and salt and deep.", "0123456789 0123456789 0123456789 0123456789"
    engine = ScriptedEngine([draft, revision.format(draft=draft, other=other)])
    [found] = asyncio.run(bench.row_speculation.first_revision(engine, "Why?", "ends:Thank you.", 400))
    assert found.copies is copies
    assert found.request.messages[1]["content"] == draft


def test_an_enforced_step_is_found_between_two_requests(bench: Any) -> None:
    engine = ScriptedEngine(NATIVE, native=True)
    [step] = asyncio.run(bench.row_step.enforced_steps(engine, "Why?"))
    assert step.milliseconds > 0
    assert step.recomputed == step.context == len(engine.calls[1])


def test_a_step_that_nothing_enforced_is_not_counted(bench: Any) -> None:
    engine = ScriptedEngine(
        ["A.\n\n### Feedback 1:\nBad. Revision is needed.\n\n### Revision 1:\nB."], native=True
    )
    assert asyncio.run(bench.row_step.enforced_steps(engine, "Why?")) == []


def test_worked_examples_fill_a_context(bench: Any) -> None:
    instruction = asyncio.run(bench.row_step.instruction_of(ScriptedEngine(["x"]), "capital of Spain", 3_000))
    assert 2_700 < len(instruction) < 3_200
    assert instruction.endswith("What is the capital of Spain?")
    assert DONE_PHRASES[0] in instruction


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


@needs_proc
def test_the_peak_of_a_process_is_what_it_took(bench: Any) -> None:
    code = "import time; taken = b'x' * {}; del taken; time.sleep(0.2)"
    commands = [[sys.executable, "-c", code.format(size)] for size in (1, 60_000_000)]
    small, large = map(bench.row_process.peak_of, commands)
    assert 58 <= large - small < 70


@needs_proc
def test_memory_is_measured_on_the_real_command(bench: Any, tiny: Any) -> None:
    row = bench.row_process.run_memory(tiny)
    assert [figure.goal is not None for figure in row.figures] == [True, False]
    assert all(10 < figure.median < 500 for figure in row.figures)


def test_help_is_measured_on_the_real_command(bench: Any, tiny: Any) -> None:
    assert len(bench.row_process.run_help(tiny).figures[0].values) == 4


def test_every_released_chain_survives_the_parse_that_is_measured(
    bench: Any, tiny: Any, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDRAFT_SHARED", str(shared_data.parent))
    row = bench.row_parse.run(tiny)
    assert "3,746 records" in row.figures[0].sides
    assert row.notes[0].startswith("3,746 of 3,746")


@pytest.mark.slow
@pytest.mark.model
def test_the_command_that_is_compared_makes_its_chains(
    bench: Any, default_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / default_model.name).symlink_to(default_model)
    monkeypatch.setenv("REDRAFT_CACHE", str(tmp_path))
    size = bench.measure.Size(rounds=1, questions=2, tokens=8, prompts=(1, 2), threads=1)
    tokens, seconds = bench.row_chains.by_redraft(["Why is the sea salty?", "What is rain?"], size)
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


# The page and the command line.


def test_the_page_names_its_making_and_every_goal(bench: Any) -> None:
    goal = bench.measure.Goal("≤", 100.0)
    met = bench.measure.Figure("a step", (80.0, 90.25, 123.4), "ms", goal, "context 1,700")
    rows = [bench.measure.Row("speed", "How.", (met,)), bench.measure.Row("size", "How.", (), ("No data.",))]
    text = bench.report.page(rows, "benchmarks/revise.py", 12.0)
    assert "| speed | a step | 90.2 ms | 80.0 to 123 | ≤ 100 ms | yes |" in text
    assert "| size | | not measured | | | no |" in text
    assert "No data." in text
    for word in (
        "machine: ",
        "GB memory",
        "Python 3",
        "redraft ",
        "commit: ",
        "`python benchmarks/revise.py`",
    ):
        assert word in text


def test_a_script_writes_its_own_part_and_leaves_the_others(bench: Any, tmp_path: Path) -> None:
    results = tmp_path / "RESULTS.md"
    results.write_text(
        "# Results\n\n## benchmarks/a.py\n\n### Oldest\n\n## redraft diagnose\n\nBy hand.\n", "utf-8"
    )
    for script, measure in (("a", "old"), ("b", "other"), ("a", "new")):
        rows = [bench.measure.Row(measure, "How.", ())]
        bench.report.put(
            results, f"benchmarks/{script}.py", bench.report.page(rows, f"benchmarks/{script}.py", 1)
        )
    headings = [line.strip("# ") for line in results.read_text("utf-8").splitlines() if line.startswith("#")]
    assert headings == ["Results", "benchmarks/a.py", "New", "redraft diagnose", "benchmarks/b.py", "Other"]
    assert "By hand." in results.read_text("utf-8")


def test_rows_are_those_of_the_promise(bench: Any) -> None:
    assert list(bench.revise.ROWS) == ["chains", "overhead", "speculation", "step", "parse", "memory", "help"]


def test_one_row_is_shown_and_not_written(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDRAFT_SHARED", str(tmp_path))
    monkeypatch.setattr(bench.revise, "RESULTS", tmp_path / "RESULTS.md")
    assert bench.revise.main(["--only", "parse"]) == 1
    assert "the shared data is not here; set REDRAFT_SHARED" in capsys.readouterr().out
    assert not bench.revise.RESULTS.exists()


def test_all_rows_in_full_are_written(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = []

    def run(size: Any) -> Any:
        sizes.append(size)
        return bench.measure.Row("speed", "How.", (bench.measure.Figure("it", (1.0,), "s"),))

    monkeypatch.setattr(bench.revise, "ROWS", {"one": run, "two": run})
    monkeypatch.setattr(bench.revise, "RESULTS", tmp_path / "RESULTS.md")
    assert bench.revise.main(["--quick"]) == 0
    assert not bench.revise.RESULTS.exists()
    assert bench.revise.main([]) == 0
    assert bench.revise.RESULTS.read_text("utf-8").count("### Speed") == 2
    assert sizes == [bench.measure.QUICK] * 2 + [bench.measure.FULL] * 2
    assert "written: RESULTS.md" in capsys.readouterr().out


# `redraft weights`: what it is measured on and with.


def test_checkpoints_grow_in_width_and_are_about_as_large_as_asked(bench: Any) -> None:
    material = bench.weights_material
    configs = [material.config_of(size * material.GIB) for size in (1, 2, 4)]
    sizes = [sum(2 * math.prod(shape) for shape in material.shapes_of(config).values()) for config in configs]
    assert [round(size / material.GIB, 1) for size in sizes] == [1.0, 2.0, 4.0]
    widths = [config["hidden_size"] for config in configs]
    assert widths == sorted(set(widths))


def test_a_target_is_its_base_and_a_small_noise(bench: Any, tmp_path: Path) -> None:
    pair = bench.weights_material.make_pair(tmp_path, bench.weights_material.GIB // 64)
    base, target = (open_checkpoint(folder) for folder in (pair.base, pair.target))
    assert base.size == target.size == pair.size
    assert len(base.files) >= 3
    name = "model.layers.0.mlp.up_proj.weight"
    one, other = base.read(name).float(), target.read(name).float()
    assert 0.001 < (other - one).std() < 0.003 < one.std()


def test_a_command_is_watched_with_what_it_starts(bench: Any) -> None:
    hold = "b = b'x' * 50_000_000; import time; time.sleep(0.3)"
    both = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {hold!r}]); {hold}; p.wait()"
    took = bench.weights_run.run_command([sys.executable, "-c", both])
    assert 100e6 < took.anonymous < 180e6
    assert took.seconds > 0.3


def test_a_command_that_fails_says_why(bench: Any) -> None:
    with pytest.raises(RuntimeError, match=r"ended with 3:\n(.*\n)*.*no-such-file"):
        bench.weights_run.weights("convert", "no-such-file", "-o", "out")


@pytest.mark.slow
def test_imports_are_those_of_the_command(bench: Any, tmp_path: Path) -> None:
    pair = bench.weights_material.make_pair(tmp_path, bench.weights_material.GIB // 64)
    idle = bench.weights_run.imports_of("diff", pair.base, pair.target, "-o", tmp_path / "delta")
    assert 30e6 < idle < 1e9
    assert (tmp_path / "delta").exists()


def test_the_plain_way_reads_both_and_writes_as_much(bench: Any, tmp_path: Path) -> None:
    for name, sizes in (("one", (40, 3)), ("other", (7,))):
        (tmp_path / name).mkdir()
        for number, size in enumerate(sizes):
            (tmp_path / name / f"{number}.safetensors").write_bytes(bytes([number]) * size)
    bench.weights_speed.plainly(tmp_path / "one", tmp_path / "other", tmp_path / "out", 42)
    assert (tmp_path / "out" / "data").read_bytes() == b"\0" * 40 + b"\1" * 2


def test_rows_turn_into_pairs_of_halves_within_each_head(bench: Any) -> None:
    rows = np.arange(8).reshape(8, 1)
    assert bench.weights_gguf.permuted(rows, 2).ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_bits_are_compared_and_not_values(bench: Any) -> None:
    zero = np.zeros(3, dtype=np.float32)
    assert bench.weights_gguf.same_bits(zero, zero.copy())
    assert not bench.weights_gguf.same_bits(zero, -zero)
    assert not bench.weights_gguf.same_bits(zero, zero[:2])


def text_of(bench: Any, *tokens: int, shift: float = 0.0) -> list[Any]:
    return [bench.weights_greedy.Step(token, {token: -0.5 - shift, 99: -3.0}) for token in tokens]


def test_texts_agree_until_they_part(bench: Any) -> None:
    ours = [text_of(bench, 1, 2, 3, 4), text_of(bench, 5, 6, 7, 8)]
    theirs = [text_of(bench, 1, 2, 3, 4, shift=0.25), text_of(bench, 5, 9, 9, 9)]
    found = bench.weights_greedy.agreement(ours, theirs)
    assert (found.same, found.common) == (0.5, 5 / 8)
    assert found.difference == 2.5  # token 6, which the other side has not above the last that it lists


def test_a_longer_text_is_not_the_same(bench: Any) -> None:
    found = bench.weights_greedy.agreement([text_of(bench, 1)], [text_of(bench, 1, 2)])
    assert (found.same, found.common) == (0.0, 1.0)


def test_a_hundred_questions_differ(bench: Any) -> None:
    asked = bench.weights_greedy.questions(100)
    assert len(set(asked)) == 100


# `redraft data`: what it is measured on and with.


@pytest.fixture
def conversations(bench: Any, shared_data: Path) -> Any:
    return bench.data_material.Conversations(shared_data)


@given(markdown=st.lists(st.sampled_from(["Text.", "```", "````py", "a\n\n", "``", "x = 1"])).map("\n".join))
def test_a_text_is_cut_at_its_fences_and_nowhere_else(bench: Any, markdown: str) -> None:
    html = bench.data_html
    parts = list(html.cut(markdown))
    again = "\n".join(
        f"`````{part.language}\n{part.code}\n`````" if isinstance(part, html.Block) else part
        for part in parts
    )
    assert html.fences_of(again) == [part for part in parts if isinstance(part, html.Block)]


def test_a_fence_in_a_longer_fence_is_code(bench: Any) -> None:
    [block] = bench.data_html.fences_of("````markdown\n```python\n  x\n```\n````\n")
    assert (block.language, block.code) == ("markdown", "```python\n  x\n```")


def test_html_says_what_the_markdown_did(bench: Any) -> None:
    bs4 = pytest.importorskip("bs4")
    html = bench.data_html
    made = (
        html.render("# A\n\n1. *b* <c>\n2. `d < e`\n\nf  g") + html.Block("py", "if a < 1:\n\t'b'\n").html()
    )
    soup = bs4.BeautifulSoup(made, "html.parser")
    assert [each.text for each in soup.find_all(["h1", "p"])] == ["A", "b <c>", "d < e", "f  g"]
    assert (soup.em.text, soup.code.text) == ("b", "d < e")
    assert html.render("1. a\n\n2. b\n3. c\n\n- d").count("<ol") == 2
    assert '<ol start="2"><li><p>b</p></li><li><p>c</p></li></ol>' in html.render("1. a\n\n2. b\n3. c\n\n- d")
    assert soup.select_one("pre code").text == "if a < 1:\n\t'b'\n\n"


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
    bs4 = pytest.importorskip("bs4")
    for number in range(40):
        made = conversations.make(number)
        assert made == conversations.make(number) != conversations.make(number + 1)
        html = "".join(turn["value"] for turn in made.record["conversations"] if turn["from"] == "gpt")
        shown = {
            code.text.removesuffix("\n") for code in bs4.BeautifulSoup(html, "html.parser").select("pre code")
        }
        assert shown <= {block.code for block in made.blocks}


def test_a_file_has_as_many_records_or_bytes_as_asked(bench: Any, conversations: Any, tmp_path: Path) -> None:
    bench.data_material.write_conversations(tmp_path / "a.json", conversations, 7)
    records = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert [record["id"] for record in records] == [f"c{number}" for number in range(7)]
    count = bench.data_material.write_bytes(tmp_path / "b.jsonl", conversations, 50_000)
    lines = (tmp_path / "b.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == count
    assert json.loads(lines[0]) == records[0]
    assert 50_000 <= (tmp_path / "b.jsonl").stat().st_size < 150_000


def test_code_that_changed_moved_or_came_is_counted(bench: Any) -> None:
    block = bench.data_html.Block
    one, two = block("py", "x = 1"), block("", "y")
    differing = bench.data_clean.differing
    assert differing([one, two, one], [one, one, two]) == 0
    assert differing([one, two], [one]) == differing([one], [one, two]) == 1
    assert differing([one, two], [one, block("", " y")]) == 1
    assert differing([one], [block("", "x = 1")]) == 1


def test_pieces_of_a_conversation_are_put_together(bench: Any) -> None:
    pieces = [("all/c3#1", ["a"]), ("c12", ["x"]), ("c3_4", ["b"])]
    assert bench.data_clean.said_in(pieces) == {3: ["a", "b"], 12: ["x"]}


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


def test_recall_counts_pairs_of_one_group(bench: Any) -> None:
    minhash = bench.data_minhash
    found = minhash.pairs_in_groups([(2, 1), (4, 1), (7, 8)])
    assert found == {(1, 2), (1, 4), (2, 4), (7, 8)}
    assert minhash.recall(found, {(1, 2), (2, 4), (3, 4), (5, 6)}) == 50.0


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
    pytest.importorskip("markdownify")
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
    pytest.importorskip("markdownify")
    peer = bench.data_clean_peer
    monkeypatch.setattr(peer, "_tokenizer", lambda folder: lambda text: SimpleNamespace(input_ids=text))
    values = ["a" * 500, "b" * 500, "c" * 500, "d" * 500, "e" * 500, "f" * 500]
    sample = {"id": "a", "conversations": [{"from": "human", "value": value} for value in values]}
    pieces = peer.split(sample, Path())
    said = [[turn["value"][0] for turn in piece["conversations"]] for piece in pieces]
    assert said == [["a", "b", "c", "d"]]


def test_rows_of_data_are_those_of_the_promise(bench: Any) -> None:
    assert list(bench.data.ROWS) == ["rouge", "pool", "clean", "minhash", "memory"]


def test_without_the_shared_data_nothing_is_measured(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDRAFT_SHARED", str(tmp_path))
    assert bench.data.main(["--quick"]) == 1
    assert capsys.readouterr().out.count(bench.data_material.MISSING) == 5


def test_our_decisions_are_those_of_rouge_score_and_a_wrong_one_is_counted(bench: Any) -> None:
    pytest.importorskip("rouge_score")
    rouge = bench.data_rouge
    pool = ["Name three rivers of France.", "Write a poem about the rain in spring.", "Sort a list."]
    candidates = ["Write a poem about rain in the spring!", "Name three rivers in France", "Who are you?"]
    ours, theirs = rouge.near_in_redraft(pool), rouge.near_in_rouge_score(pool)
    _, differ, near = rouge.compare(ours, theirs, candidates)
    assert (differ, near) == (0, 2)
    assert rouge.compare(lambda text: ours(text) ^ {2}, theirs, candidates)[1] == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "row", ["rouge", "pool", pytest.param("clean", marks=pytest.mark.model), "minhash", "memory"]
)
def test_a_row_of_data_is_measured_and_leaves_nothing(
    bench: Any, row: str, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for peer in ("rouge_score", "markdownify", "datasketch"):
        pytest.importorskip(peer)
    monkeypatch.setenv("REDRAFT_SHARED", str(shared_data.parent))
    assert bench.data.main(["--quick", "--only", row, "--work", str(tmp_path)]) in (0, 1)  # not timed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
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
    status = bench.weights.main(["--quick", "--only", row, "--work", str(tmp_path)])
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


@pytest.mark.slow
@pytest.mark.model
def test_the_hf_engine_is_measured_on_the_default_model(
    bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.apps_hf.main(["--quick"]) in (0, 1)  # tests are not timed
    assert "8 streams, float32" in capsys.readouterr().out


# Echoes.


def test_every_set_of_checks_can_be_asked_for(bench: Any) -> None:
    material = bench.echo_material
    for index in range(2 * len(material.CHECKS)):
        for check in material.checks_for(index, "Describe a lighthouse of Portugal."):
            assert parse_check(check).name


def test_revisions_come_with_all_that_was_said_before(bench: Any) -> None:
    model = ScriptedEngine(["One two three four.", "The answer has 4 words.", "One two."])
    made = asyncio.run(arevise("Count.", model=model, checks=["words<=2"], max_revisions=2, id="0/a"))
    found = list(bench.echo_material.revisions(made, ["words<=2"]))
    assert [(each["id"], each["draft"], each["revision"]) for each in found] == [
        ("0/a#1", "One two three four.", "The answer has 4 words."),
        ("0/a#2", "The answer has 4 words.", "One two."),
    ]
    assert [len(each["feedback"]) for each in found] == [1, 2]


def test_a_threshold_is_chosen_by_the_honest_revisions(bench: Any) -> None:
    made = [{"label": "echo", "score": score} for score in (0.3, 0.5, 0.9)]
    made += [{"label": "answer", "score": score} for score in (0.1, 0.4)]
    score = dict.__getitem__
    assert bench.echo.best_threshold(lambda each: score(each, "score"), made) == 0.5
    found = [
        bench.echo.hits(lambda each: score(each, "score"), made, 0.2, label) for label in ("echo", "answer")
    ]
    assert found == [(3, 3), (1, 2)]
