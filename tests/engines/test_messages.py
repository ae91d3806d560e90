"""Messages that are more than text: passed on whole, or refused by name; never dropped."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from redraft.engines.base import EngineInfo, Message
from redraft.engines.messages import folded, joined, message_of, plain
from redraft.engines.scripted import ScriptedEngine
from redraft.errors import UsageError
from redraft.revision.api import revise
from tests.engines.able import OF_TEXT, Able
from tests.engines.fake_server import FakeServer, chat_reply

CHAT = "POST /v1/chat/completions"
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
QUESTION = {"role": "user", "content": [{"type": "text", "text": "What is this?"}, PICTURE], "name": "ann"}
CALL = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
TALK = [
    {"role": "developer", "content": "Be brief."},
    QUESTION,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "A gull."},
    {"role": "tool", "tool_call_id": "c2", "content": "A grey one."},
]
LOCAL = EngineInfo(name="small", engine="llamacpp")


def local(*replies: str) -> Able:
    return Able(replies, about={"engine": "llamacpp", **OF_TEXT})


def test_a_server_gets_every_message_unchanged(server: FakeServer) -> None:
    said = ["A gull.", "Too short. Revision is needed.", "A grey gull.", "Revision is not needed."]
    server.on(CHAT, *map(chat_reply, said))
    chain = revise(TALK, model=f"{server.url}#m")
    draft, criticism, revision, _ = (request.json["messages"] for request in server.asked(CHAT))
    assert (draft, criticism[:5]) == (TALK, TALK)
    assert revision[:5] == TALK
    assert chain.prompt.messages is not None
    assert (list(chain.prompt.messages), chain.answer) == (TALK, "A grey gull.")


class Bird(BaseModel):
    name: str


def test_the_form_of_the_output_is_asked_for_beside_the_parts(server: FakeServer) -> None:
    server.on(CHAT, chat_reply('{"name": "gull"}'))
    chain = revise([QUESTION], model=f"{server.url}#m", output=Bird)
    content = server.asked(CHAT)[0].json["messages"][0]["content"]
    assert content[:2] == QUESTION["content"]
    assert '{"name": string}' in content[2]["text"]
    assert chain.value == Bird(name="gull")


def test_the_form_of_the_output_does_not_become_the_word_of_a_tool(server: FakeServer) -> None:
    server.on(CHAT, chat_reply('{"name": "gull"}'))
    revise(TALK, model=f"{server.url}#m", output=Bird)
    messages = server.asked(CHAT)[0].json["messages"]
    changed = [each for each in messages if each not in TALK]  # nor a turn behind it, which some refuse
    assert (len(messages), [each["role"] for each in changed]) == (len(TALK), ["user"])


@pytest.mark.parametrize(
    ("message", "part"),
    [
        (QUESTION, "a part of the type 'image_url'"),
        ({"role": "assistant", "content": None, "tool_calls": [CALL]}, "'tool_calls'"),
        ({"role": "tool", "content": "A gull.", "tool_call_id": "c1"}, "the role 'tool'"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "'input_audio'"),
    ],
)
def test_an_engine_that_takes_text_alone_refuses_the_rest(message: dict[str, Any], part: str) -> None:
    engine = local("A gull.")
    with pytest.raises(UsageError) as caught:
        revise([message, {"role": "user", "content": "What is this?"}], model=engine)
    assert "the engine llamacpp accepts only text, but message 1 has " in caught.value.message
    assert part in caught.value.message
    assert "http://host/v1#model" in str(caught.value.hint)
    assert engine.calls == []


def test_the_role_developer_is_that_of_the_system_for_an_engine_that_takes_text_alone() -> None:
    message: Message = {"role": "developer", "content": "Be brief."}
    assert plain([message], LOCAL) == [{"role": "system", "content": "Be brief."}]
    assert revise([message, {"role": "user", "content": "Hi."}], model=local("Hm."), max_revisions=0).answer


def test_a_name_goes_to_the_chat_template() -> None:
    named: Message = {"role": "user", "content": "Hi.", "name": "ann"}
    assert plain([named], LOCAL) == [named]


def test_a_template_that_refuses_turns_of_two_names_gets_them_as_one() -> None:
    ann: Message = {"role": "user", "content": "Hi.", "name": "ann"}
    assert folded([ann, {**ann, "name": "bob"}]) == ({"role": "user", "content": "Hi.\n\nHi."},)


def test_the_role_developer_is_that_of_the_system_for_native_revision() -> None:
    engine = ScriptedEngine(["A gull.\n\n### Feedback 1:\nRevision is not needed."], native=True)
    talk = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "What is this?"}]
    revise(talk, model=engine, system="Be kind.")
    prompt = engine.calls[0] if isinstance(engine.calls[0], str) else bytes(engine.calls[0]).decode()
    assert "### Instruction:\nBe brief.\n\nWhat is this?\n" in prompt


def test_native_revision_refuses_them_too() -> None:
    engine = ScriptedEngine(["A gull."], native=True)
    with pytest.raises(UsageError, match="native revision needs messages of plain text, but one has a part"):
        revise([QUESTION], model=engine)
    assert engine.calls == []


def test_a_critic_on_this_machine_refuses_them_before_anything_is_asked(server: FakeServer) -> None:
    with pytest.raises(UsageError, match="the engine llamacpp"):
        revise([QUESTION], model=f"{server.url}#m", critic=local("Good."))
    assert server.asked(CHAT) == []


def test_parts_that_are_all_text_are_a_text_everywhere() -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "rain?"}]
    engine = local("Water.", "Revision is not needed.")
    assert revise([{"role": "user", "content": parts}], model=engine).answer == "Water."
    assert plain([{"role": "user", "content": parts}], LOCAL) == [
        {"role": "user", "content": "What is rain?"}
    ]


def test_notes_of_a_record_are_not_sent() -> None:
    assert message_of({"role": "user", "content": "Hi", "weight": 0, "id": 7, "name": None}) == {
        "role": "user",
        "content": "Hi",
    }
    assert message_of({"role": "user", "content": None})["content"] == ""


def test_plain_neighbours_are_joined_and_others_stay_apart() -> None:
    def user(content: Any, **more: Any) -> Message:
        return {"role": "user", "content": content, **more}

    assert joined([user("One."), user("Two.")]) == (user("One.\n\nTwo."),)
    assert joined([user([PICTURE]), user("Two.")]) == (user([PICTURE, {"type": "text", "text": "Two."}]),)
    assert len(joined([user("One.", name="ann"), user("Two.")])) == 2


@pytest.mark.parametrize("role", ["tol", 5, None])
def test_an_unknown_role_is_refused(role: Any) -> None:
    with pytest.raises(UsageError, match="the prompt is"):
        revise([{"role": role, "content": "Hi"}], model=ScriptedEngine(["Hi"]))
