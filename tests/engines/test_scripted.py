from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from redraft.engines.base import Sampling
from redraft.engines.scripted import ScriptedEngine, read_script
from redraft.errors import RecordError
from redraft.revision.api import revise


def script(folder: Path, text: str) -> ScriptedEngine:
    path = folder / "script.jsonl"
    path.write_text(text, encoding="utf-8")
    return read_script(path)


async def said(engine: ScriptedEngine) -> str:
    return "".join([delta.text async for delta in engine.chat([], Sampling())])


async def test_replies_are_used_in_order_and_from_the_first_again(tmp_path: Path) -> None:
    engine = script(tmp_path, '"One."\n\n{"text": "Two."}\n')
    assert [await said(engine) for _ in range(3)] == ["One.", "Two.", "One."]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": 1}', "there is no option 'a'"),
        ('{"text": "One.", "delay": 1}', "there is no option 'delay'"),
        ("3", "a reply must be a string or an object, not 3"),
        ("A reply.", "this is not JSON"),
        ('{"finish": "soon"}', "finish is 'soon'"),
    ],
)
def test_what_is_no_reply_is_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        script(tmp_path, f'"One."\n{line}\n')
    assert caught.value.message.startswith(f"{tmp_path}/script.jsonl:2: {message}")
    assert str(caught.value.hint).partition("Write one ")[2].startswith("reply per line, as a JSON string")


def test_a_reply_that_calls_a_tool_ends_the_chain(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    engine = script(tmp_path, json.dumps({"text": "Let me see.", "tool_calls": [call]}) + '\n"Sunny."\n')
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    chain = revise("What is the weather?", model=engine, tools=[tool], mode="prompted")
    assert (chain.stop, chain.answer, chain.steps[-1].tool_calls) == ("tool_calls", "Let me see.", (call,))


def test_a_binary_file_is_not_a_script(tmp_path: Path) -> None:
    path = tmp_path / "random.bin"
    path.write_bytes(b'"a"\n\xff\xfe\x00')
    with pytest.raises(RecordError, match="2: this is not text"):
        read_script(path)


@pytest.mark.parametrize("end", "\x85\u2028\u2029")
def test_only_a_line_feed_ends_a_reply(tmp_path: Path, end: str) -> None:
    reply = json.dumps(f"a{end}b", ensure_ascii=False)
    assert script(tmp_path, f"{reply}\n{reply}\r\n").replies == [f"a{end}b"] * 2


@pytest.mark.parametrize("asked", ["Hi.", (72, 105, 46), [{"role": "user", "content": "Hi."}]])
async def test_the_rest_of_a_reply_that_another_engine_began(asked: Any) -> None:
    engine = ScriptedEngine(["No.", "Rain is water."])
    said = await engine.encode("Rain is")
    *pieces, last = [delta async for delta in engine.resume(asked, Sampling(), ["."], said)]
    assert "".join(delta.text for delta in pieces) == " water"
    assert (last.stop_text, last.prompt_tokens, last.completion_tokens) == (
        ".",
        len("Hi.Rain is"),
        len(" water."),
    )


async def test_the_rest_of_a_reply_has_room_for_the_rest_alone() -> None:
    engine = ScriptedEngine(["Rain is water."])
    said = await engine.encode("Rain is")
    found = [delta async for delta in engine.resume("Hi.", Sampling(max_tokens=9), (), said)]
    assert ("".join(delta.text for delta in found), found[-1].finish) == (" w", "max_tokens")
