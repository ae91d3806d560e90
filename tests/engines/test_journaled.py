"""An engine with a journal: nothing is asked twice, and no reply serves another question."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.engines import wrapped
from redraft.engines.base import Delta, Sampling
from redraft.engines.load import identity_of
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.engines.steering.form import Form, Gap
from redraft.engines.wrapped import JournaledEngine
from redraft.errors import ServerError
from redraft.jobs.journal import Journal
from redraft.revision.ops import CallMeter
from tests.engines.able import Able
from tests.engines.remote.asking import text_of

PLAIN = Sampling()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.db") as journal:
        yield journal


def journaled(
    engine: ScriptedEngine, journal: Journal, *, identity: str = "m", scope: str = "1"
) -> JournaledEngine:
    return JournaledEngine(engine, journal, identity=identity, scope=scope)


def ask(
    engine: JournaledEngine, text: str = "Hi", sampling: Sampling = PLAIN, stop: Sequence[str] = ()
) -> list[Delta]:
    async def deltas() -> list[Delta]:
        return [delta async for delta in engine.chat([{"role": "user", "content": text}], sampling, stop)]

    return asyncio.run(deltas())


def test_log_probabilities_are_replayed_and_are_another_question(journal: Journal) -> None:
    class Sure(ScriptedEngine):
        async def chat(self, *args: Any, **more: Any) -> AsyncGenerator[Delta, None]:
            async for delta in super().chat(*args, **more):
                yield replace(delta, logprobs=(-0.5, -1.25))

    how = Sampling(logprobs=True)
    paid = ask(journaled(Sure(["Yes."]), journal), sampling=how)
    assert ask(journaled(ScriptedEngine(["Not asked."]), journal), sampling=how) == paid
    assert paid[0].logprobs == (-0.5, -1.25)
    assert text_of(ask(journaled(ScriptedEngine(["No."]), journal))) == "No."


def test_a_replayed_reply_tells_the_seconds_that_it_took_when_it_was_written(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrapped, "time", SimpleNamespace(monotonic=count(5.0, 3.0).__next__))
    written = ask(journaled(ScriptedEngine(["One two three."]), journal))
    replayed = ask(journaled(ScriptedEngine(["Not asked."]), journal))
    assert [each.seconds for each in written] == [each.seconds for each in replayed] == [3.0] * len(written)
    meter = CallMeter(lambda: 7.0, 0)
    for each in replayed[:2]:  # the caller may end it early
        meter.count(each, 0)
    assert meter.usages(Delta())[0].seconds == 6.0


def test_a_second_sample_is_another_reply_and_both_are_replayed(journal: Journal) -> None:
    engine = journaled(ScriptedEngine(["One.", "Two."]), journal)
    assert [text_of(ask(engine)), text_of(ask(engine))] == ["One.", "Two."]
    again = ScriptedEngine(["Three."])
    engine = journaled(again, journal)
    assert [text_of(ask(engine)) for _ in range(3)] == ["One.", "Two.", "Three."]
    assert len(again.calls) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"text": "Hi "}, {"sampling": Sampling(temperature=0.1)}, {"sampling": Sampling(seed=7)},
        {"sampling": Sampling(max_tokens=9)}, {"sampling": Sampling(top_p=0.5)},
        {"sampling": Sampling(form=Form(without=frozenset(",")))},
        {"sampling": Sampling(form=Form(gap=Gap(" wet", " day.", " day.", near=frozenset({"day"}))))},
        {"sampling": Sampling(banned=frozenset({7, 5}))}, {"stop": ["x"]},
    ],
    ids=str,
)  # fmt: skip
def test_a_reply_never_serves_another_request(journal: Journal, change: dict[str, object]) -> None:
    ask(journaled(ScriptedEngine(["One."]), journal))
    assert text_of(ask(journaled(ScriptedEngine(["Two."]), journal), **change)) == "Two."  # type: ignore[arg-type]


@pytest.mark.parametrize("about", [{"identity": "other"}, {"scope": "2"}], ids=str)
def test_a_reply_never_serves_another_model_or_item(journal: Journal, about: dict[str, str]) -> None:
    ask(journaled(ScriptedEngine(["One."]), journal))
    assert text_of(ask(journaled(ScriptedEngine(["Two."]), journal, **about))) == "Two."


def test_raw_text_and_a_chat_of_it_are_two_things(journal: Journal) -> None:
    async def raw(engine: JournaledEngine) -> str:
        return "".join([delta.text async for delta in engine.stream("Hi", Sampling())])

    assert asyncio.run(raw(journaled(ScriptedEngine(["One."]), journal))) == "One."
    assert text_of(ask(journaled(ScriptedEngine(["Two."]), journal))) == "Two."
    assert asyncio.run(raw(journaled(ScriptedEngine(["Three."]), journal))) == "One."


def test_a_reply_that_was_closed_early_is_asked_again(journal: Journal) -> None:
    async def begin(engine: JournaledEngine) -> str:
        async with aclosing(engine.chat([{"role": "user", "content": "Hi"}], Sampling())) as deltas:
            return (await anext(deltas)).text

    assert asyncio.run(begin(journaled(ScriptedEngine(["Half an answer."]), journal))) == "Half"
    assert text_of(ask(journaled(ScriptedEngine(["Whole."]), journal))) == "Whole."


def test_it_is_stored_before_its_end_is_passed_on(journal: Journal) -> None:
    async def until_the_end(engine: JournaledEngine) -> None:
        async with aclosing(engine.chat([{"role": "user", "content": "Hi"}], Sampling())) as deltas:
            async for delta in deltas:
                if delta.finish:
                    return

    asyncio.run(until_the_end(journaled(ScriptedEngine(["Paid."]), journal)))
    assert text_of(ask(journaled(ScriptedEngine(["Other."]), journal))) == "Paid."


class Fixed(ScriptedEngine):
    def __init__(self, deltas: Sequence[Delta]) -> None:
        super().__init__([""])
        self._deltas = deltas

    async def chat(self, *_: Any, **__: Any) -> AsyncGenerator[Delta, None]:
        for delta in self._deltas:
            yield delta


TOKENS = st.lists(st.integers(0, 300_000), max_size=3).map(tuple)
LOGPROBS = st.lists(st.floats(-50, 0), max_size=3).map(tuple)
LIKELIEST = st.lists(
    st.lists(st.tuples(st.text(max_size=3) | st.integers(0), st.floats(-50, 0)), max_size=2).map(tuple),
    max_size=2,
).map(tuple)
PIECE = st.builds(
    Delta, text=st.text(), tokens=TOKENS, logprobs=LOGPROBS, likeliest=LIKELIEST, unsteered=st.booleans()
)
COUNT = st.none() | st.integers(0, 9)
LAST = st.builds(
    Delta,
    text=st.text(),
    tokens=TOKENS,
    finish=st.sampled_from(["stop", "max_tokens"]),
    stop_text=st.none() | st.text(min_size=1),
    prompt_tokens=COUNT,
    cached_tokens=COUNT,
    completion_tokens=COUNT,
    aside=st.text(),
    tool_calls=st.just(({"id": "1", "function": {"name": "f", "arguments": "{}"}},)),
    estimated=st.booleans(),
)


@pytest.mark.slow
@settings(max_examples=50)
@given(st.lists(PIECE, max_size=4), LAST)
def test_any_deltas_are_replayed_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[Delta], last: Delta
) -> None:
    with Journal(tmp_path_factory.mktemp("journal") / "j.db") as journal:
        paid = ask(journaled(Fixed([*pieces, last]), journal))
        assert paid == [*pieces, last]
        assert ask(journaled(ScriptedEngine(["x"]), journal)) == paid


@pytest.mark.slow
def test_a_reply_takes_little_more_than_its_text(tmp_path: Path) -> None:
    """Of 1 to 2 kB, with token ids and times: each word of a page is a token here."""
    words = re.findall(r"\s?\w+|\s*[^\w\s]+", Path("CONTRIBUTING.md").read_text("utf-8"))
    ids = {word: 16 * number for number, word in enumerate(dict.fromkeys(words))}
    whole = [Delta(word, (ids[word],)) for word in words]
    end = Delta(finish="stop", prompt_tokens=30, cached_tokens=20, completion_tokens=300)
    replies = [[*whole[start : start + 300], end] for start in range(0, len(words) - 300, 4)]
    with Journal(tmp_path / "j.db") as journal:
        for number, reply in enumerate(replies):
            ask(journaled(Fixed(reply), journal), str(number))
    text = sum(len(text_of(reply).encode()) for reply in replies)
    assert text / len(replies) < 2000
    assert (tmp_path / "j.db").stat().st_size < 1.75 * text


@pytest.mark.parametrize(("text", "finish"), [("", "stop"), (" \n", "stop"), ("x" * 99, "context")])
def test_a_reply_without_a_text_or_of_a_full_context_is_asked_again(
    journal: Journal, text: str, finish: str
) -> None:
    assert ask(journaled(ScriptedEngine([text], context=50), journal))[-1].finish == finish
    assert text_of(ask(journaled(ScriptedEngine(["Two."]), journal))) == "Two."


def test_models_are_told_apart_by_their_files(tmp_path: Path) -> None:
    folder, adapter, model = tmp_path / "m", tmp_path / "a", tmp_path / "m.gguf"
    for path in (folder / "config.json", adapter / "adapter_model.safetensors", model):
        path.parent.mkdir(exist_ok=True)
        path.write_text("1")
    references = [str(folder), f"{folder}+{adapter}", str(model), "http://h/v1#a", "http://h/v1#b"]
    before = [identity_of(each) for each in references]
    assert len({json.dumps(each) for each in before}) == len(references)
    (adapter / "adapter_model.safetensors").write_text("22")
    assert [old == identity_of(each) for old, each in zip(before, references, strict=True)] == [
        True, False, True, True, True,
    ]  # fmt: skip
    model.write_text("22")
    assert identity_of(str(model)) != before[2]


def test_a_number_format_that_was_asked_for_has_replies_of_its_own(tmp_path: Path) -> None:
    async def ask(reply: str, dtype: str) -> str:
        with Journal(tmp_path / "replies.db") as journal:
            journaled = JournaledEngine(Able([reply], about={"dtype": dtype}), journal, identity="x")
            replies = journaled.chat([{"role": "user", "content": "?"}], Sampling())
            return "".join([delta.text async for delta in replies])

    answers = [asyncio.run(ask(*each)) for each in (("a", ""), ("b", "float32"), ("c", ""), ("d", "float32"))]
    assert answers == ["a", "b", "a", "b"]


def test_a_call_that_is_repeated_has_the_place_of_the_one_that_broke_off(journal: Journal) -> None:
    engine = journaled(
        ScriptedEngine([ScriptedReply("Half", ServerError("gone")), "Whole.", "Second."]), journal
    )
    with pytest.raises(ServerError):
        ask(engine)
    assert [text_of(ask(engine)) for _ in range(2)] == ["Whole.", "Second."]
    later = journaled(ScriptedEngine(["New."]), journal)
    assert [text_of(ask(later)) for _ in range(3)] == ["Whole.", "Second.", "New."]


def test_a_model_of_several_servers_is_the_same_whichever_they_are(tmp_path: Path) -> None:
    two, other = "http://a/v1#m,http://b/v1#m", "http://c/v1#m,http://b/v1#m,http://a/v1#m"
    assert identity_of(two) == identity_of(other)
    assert identity_of(two) != identity_of("http://a/v1#n,http://b/v1#n")
    assert identity_of(two) != identity_of("http://a/v1#m")
    script = tmp_path / "s.jsonl"
    script.write_text('"Hi."\n')
    assert identity_of(f"script:{script},script:{script}") == identity_of(f"script:{script}")


def test_what_is_left_to_a_server_is_another_question_than_the_same_number(journal: Journal) -> None:
    own, unset = {"own_sampling": True}, Sampling(unset=frozenset({"temperature", "top_p", "max_tokens"}))
    assert text_of(ask(journaled(Able(["Its own."], about=own), journal), sampling=unset)) == "Its own."
    assert text_of(ask(journaled(Able(["As asked."], about=own), journal))) == "As asked."
    assert text_of(ask(journaled(ScriptedEngine(["No server."]), journal), sampling=unset)) == "As asked."
