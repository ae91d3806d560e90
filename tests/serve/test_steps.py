from __future__ import annotations

import json
from typing import Any

import httpx

from redraft.engines.base import Delta, Replies
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.errors import EngineError
from tests.serve.running import LONG, SHORT, Server, both, events_of, plain, served, short

STREAMED = {"stream": True, "stream_options": {"include_steps": True}, "redraft": True}


def deltas(server: Server, **body: Any) -> list[dict[str, Any]]:
    text = server.post({"model": "short", **STREAMED, **body}).text
    return [json.loads(line)["choices"][0]["delta"] for line in events_of(text)[:-1]]


def steps(server: Server, **body: Any) -> list[dict[str, Any]]:
    return [delta["redraft"] for delta in deltas(server, **body) if "redraft" in delta]


def written(events: list[dict[str, Any]], kind: str, index: int) -> str:
    texts = [each for each in events if each["type"] == "text"]
    return "".join(each["text"] for each in texts if (each["kind"], each["index"]) == (kind, index))


def test_steps_are_events_and_the_answer_is_content() -> None:
    with served() as server:
        found = deltas(server)
        events = [delta["redraft"] for delta in found if "redraft" in delta]
    assert (written(events, "answer", 0), written(events, "answer", 1)) == (LONG, SHORT)
    done = [each for each in events if each["type"] == "step"]
    assert [each["step"]["answer"] for each in done] == [LONG, SHORT]
    assert [each["step"]["feedback"]["checks"][0]["passed"] for each in done] == [False, True]
    assert [delta["content"] for delta in found if delta.get("content")] == [SHORT]
    assert not any("reasoning_content" in delta for delta in found)


def test_feedback_and_drafts_are_events() -> None:
    critic = ScriptedEngine([LONG, "Too long. Revision is needed.", SHORT, "No revision is needed."])
    best = ScriptedEngine(["One two three four five six.", "One two three."])
    with served({"short": {"model": critic}, "best": short(best, mode="best-of", drafts=2)}) as server:
        assert written(steps(server), "feedback", 0) == "Too long. Revision is needed."
        drafts = [each["step"]["answer"] for each in steps(server, model="best") if each["type"] == "draft"]
    assert drafts == ["One two three four five six.", "One two three."]


def test_a_patch_is_streamed_with_its_place() -> None:
    engine = ScriptedEngine(["It is wet. Dogs like the rain, and so do ducks.", "[1] It is cold."])
    with served({"short": {"model": engine, "checks": ["lacks:wet"], "max_revisions": 1}}) as server:
        found = [each for each in steps(server) if each["type"] == "patch"]
    assert found[0] == {"type": "patch", "index": 1, "text": "", "place": [0, 10]}
    assert "".join(each["text"] for each in found) == "It is cold."


def test_a_text_that_broke_off_is_said_to_come_again() -> None:
    lost = EngineError("the process died", passing=True)
    lost.ready = True
    with served(both(LONG, ScriptedReply("Rain is", error=lost), SHORT)) as server:
        [again] = [each for each in steps(server) if each["type"] == "again"]
    assert again == {"type": "again", "steps": 1, "drafts": 0}


def test_a_client_is_told_that_it_waits() -> None:
    asked = {"model": "short", "messages": [{"role": "user", "content": "Hi."}], **STREAMED}
    with (
        served({"short": short(ScriptedEngine([LONG, SHORT], delay=0.02))}, at_once=1) as server,
        httpx.stream("POST", f"{server.url}/chat/completions", json=asked, timeout=30) as first,
    ):
        lines = first.iter_lines()
        next(lines)
        assert steps(server, revision={"max": 0})[0]["type"] == "waiting"


def test_what_a_model_thinks_is_an_event_and_no_part_of_its_answer() -> None:
    class Thinking(ScriptedEngine):
        async def chat(self, *given: Any, **more: Any) -> Replies:
            yield Delta(thought="Let me ")
            yield Delta(thought="see.")
            async for delta in super().chat(*given, **more):
                yield delta

    with served({"short": short(Thinking([LONG, SHORT]))}) as server:
        found = steps(server)
        message = server.post({"model": "short"}).json()["choices"][0]["message"]
    thoughts = [each for each in found if each["type"] == "thought"]
    assert [(each["index"], each["text"]) for each in thoughts] == [
        *((index, piece) for index in (0, 1) for piece in ("Let me ", "see."))
    ]
    assert message["content"] == SHORT
    assert message["reasoning_content"].startswith("Let me see.\n\nDraft:")


def test_a_plain_models_thoughts_are_reasoning() -> None:
    with served({"short": plain(ScriptedEngine([f"<think>Let me see.</think>{SHORT}"], chunk=3))}) as server:
        reply = server.post({"model": "short"}).json()
        found = deltas(server, stream_options={})
    message, details = reply["choices"][0]["message"], reply["usage"]["completion_tokens_details"]
    assert 0.5 < details["reasoning_tokens"] / len("<think>Let me see.</think>") < 1
    assert (message["content"], message["reasoning_content"]) == (SHORT, "Let me see.")
    assert "".join(delta.get("content") or "" for delta in found) == SHORT
    assert "".join(delta.get("reasoning_content") or "" for delta in found) == "Let me see."


def test_a_given_answer_is_revised_and_not_written() -> None:
    with served({"plain": plain(ScriptedEngine([SHORT]))}) as server:
        revision = {"given": LONG, "min": 1, "max": 1, "checks": ["words<=5"]}
        chain = server.post({"revision": revision, "redraft": True}).json()["redraft"]
    assert [step["answer"] for step in chain["steps"]] == [LONG, SHORT]


def test_another_model_of_the_server_criticises() -> None:
    critic = ScriptedEngine(["Too long. Revision is needed.", "No revision is needed."])
    with served({"writer": {"model": ScriptedEngine([LONG, SHORT])}, "critic": plain(critic)}) as server:
        body = {"model": "writer", "revision": {"critic": "critic"}}
        assert server.post(body).json()["choices"][0]["message"]["content"] == SHORT
        missing = server.post({"model": "writer", "revision": {"critic": "nobody"}})
    assert len(critic.calls) == 2
    assert missing.json()["error"]["code"] == "model_not_found"


def test_models_say_what_they_do_by_themselves() -> None:
    with served() as server:
        found = {each["id"]: each["redraft"] for each in httpx.get(f"{server.url}/models").json()["data"]}
    assert found["plain"] == {**found["plain"], "max": 0, "checks": []}
    assert found["short"] == {**found["short"], "min": 0, "max": 3, "checks": ["words<=5"], "drafts": 1}


def test_checks_are_listed_and_read_by_the_rules_of_a_request() -> None:
    with served() as server:
        forms = {each["id"]: each["form"] for each in httpx.get(f"{server.url}/checks").json()["data"]}

        def fault(check: str) -> str:
            found = httpx.get(f"{server.url}/checks", params={"check": check}).json()
            return str((found["error"] or {}).get("message", ""))

        assert "words" in forms
        assert "command" not in forms
        assert fault("words<=5") == ""
        assert "Did you mean 'words'?" in fault("word<=5")
        for wrong in ("command:rm", "words<=5" + " " * 5000, ""):
            assert fault(wrong) == server.post({"revision": {"checks": [wrong]}}).json()["error"]["message"]
