from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from redraft.chain import Chain, Prompt, Step
from redraft.engines.base import OF_TEMPLATE, Sampling
from redraft.engines.remote.engine import RemoteEngine
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.errors import EngineError, EngineTimeout, ServerError
from redraft.revision.ops import Finished
from redraft.revision.options import RevisionOptions
from redraft.serve.errors import Refusal
from redraft.serve.reader import ServerLimits
from redraft.serve.replies import allowed
from redraft.serve.requests import Accepted, Revision
from tests.engines.able import Able
from tests.engines.fake_server import FakeServer, chat_reply
from tests.revision.test_api import SHIPPED
from tests.serve.running import LONG, SHORT, Person, both, events_of, plain, served, short

ASK: list[Any] = [{"role": "user", "content": "Describe rain."}]
COMPLAINT = "The answer has 11 words, and at most 5 are allowed: 6 too many."
STEPS = f"Draft:\n{LONG}\n\nFeedback:\n{COMPLAINT}"


def extra(part: Any, name: str) -> Any:
    return (part.model_extra or {}).get(name)


def test_usage_counts_all_attempts() -> None:
    with served() as server, server.client() as client:
        reply = client.chat.completions.create(model="short", messages=ASK)
        alone = client.chat.completions.create(model="plain", messages=ASK).usage
    message, usage = reply.choices[0].message, reply.usage
    assert (message.content, extra(message, "reasoning_content")) == (SHORT, STEPS)
    assert usage
    assert usage.completion_tokens_details
    assert usage.completion_tokens == len(LONG) + len(SHORT)  # a scripted token is a character
    assert usage.completion_tokens_details.reasoning_tokens == len(LONG)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert alone
    assert alone.completion_tokens_details
    assert alone.completion_tokens_details.reasoning_tokens == 0


def test_what_steering_discarded_is_reasoning() -> None:
    with served({"steered": short(Able([SHORT], about={"forms": True}))}) as server:
        used = server.post({"model": "steered"}).json()["usage"]
    # A scripted token is a character, and the answer is taken to have fewer.
    assert 0 < used["completion_tokens_details"]["reasoning_tokens"] < used["completion_tokens"]


def test_a_models_feedback_is_reasoning_and_no_part_of_the_answer() -> None:
    engine = ScriptedEngine([LONG, "Too long. Revision is needed.", SHORT, "No revision is needed."])
    with served({"critic": {"model": engine}}) as server:
        reply = server.post({"model": "critic"}).json()
    message, details = reply["choices"][0]["message"], reply["usage"]["completion_tokens_details"]
    assert message["content"] == SHORT
    assert message["reasoning_content"] == (
        f"Draft:\n{LONG}\n\nFeedback:\nToo long. Revision is needed."
        f"\n\nRevision 1:\n{SHORT}\n\nFeedback:\nNo revision is needed."
    )
    assert details["reasoning_tokens"] == reply["usage"]["completion_tokens"] - len(SHORT)


def test_feedback_of_a_model_and_of_checks_is_reasoning() -> None:
    engine = ScriptedEngine([LONG, "It is dull. Revision is needed.", SHORT, "No revision is needed."])
    with served({"both": short(engine, mode="prompted")}) as server:
        thought = server.post({"model": "both"}).json()["choices"][0]["message"]["reasoning_content"]
    assert thought == f"Draft:\n{LONG}\n\nFeedback:\nIt is dull. Revision is needed.\n{COMPLAINT}"


def test_a_persons_wish_is_no_thought_of_the_model() -> None:
    revision = {"given": "Rain is wet.", "places": [["wet", "say how warm"], ["Rain", "longer"]]}
    with served({"plain": {"model": ScriptedEngine(["[2] cold", "Rain"])}}) as server:
        choice = server.post({"model": "plain", "revision": revision}).json()["choices"][0]
    message = choice["message"]
    assert (message["content"], "say how warm" in str(message)) == ("Rain is cold.", False)
    assert choice["unmet"] == ["longer"]


def test_an_answer_that_time_left_unchecked_is_unmet() -> None:
    with served(both(ScriptedReply("Rain is wet", stall=60)), limits=ServerLimits(seconds=0.3)) as server:
        found = [server.post({"model": name}).json()["choices"][0] for name in ("short", "plain")]
    said = ["The budget ran out before the answer was checked."]
    assert [each.get("unmet") for each in found] == [said, None]


def test_drafts_that_were_not_chosen_are_reasoning() -> None:
    engine = ScriptedEngine(["One two three four five six.", "One two three.", "One two three four."])
    with served({"best": short(engine, mode="best-of", drafts=3, checks=["words==3"])}) as server:
        reply = server.post({"model": "best"}).json()
    message = reply["choices"][0]["message"]
    assert message["content"] == "One two three."
    assert "Draft:\nOne two three four five six." in message["reasoning_content"]
    thought = reply["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert thought == reply["usage"]["completion_tokens"] - len(message["content"])


def test_the_best_answer_is_sent_and_not_the_last() -> None:
    with served(both("a b c d e f", "a b c d e f g h i", "a b c d e f g h")) as server:
        whole = server.post({"model": "short", "revision": {"max": 2}}).json()
        stream = server.post({"model": "short", "stream": True, "revision": {"max": 2}}).text
    assert whole["choices"][0]["message"]["content"] == "a b c d e f"
    deltas = [json.loads(line)["choices"][0]["delta"] for line in events_of(stream)[:-1]]
    assert [delta["content"] for delta in deltas if "content" in delta] == ["a b c d e f"]
    for more, answer in (({}, "One."), ({"prefer_last": True}, "Two.")):  # a tie
        with served({"short": short(ScriptedEngine(["Dull. Revision is needed.", "Two."]))}) as server:
            revision = {"given": "One.", "min": 1, "max": 1, **more}
            assert content_of(server.post({"model": "short", "revision": revision})) == answer


@pytest.mark.parametrize("stream", [True, False])
def test_json_that_was_asked_for_comes_without_its_fence(stream: bool) -> None:
    written = 'Sure! Here it is:\n```json\n{"a": 1}\n```'
    with served({"fenced": {"model": ScriptedEngine([written]), "max_revisions": 0}}) as server:
        body = {"model": "fenced", "response_format": {"type": "json_object"}, "redraft": not stream}
        reply = server.post({**body, "stream": stream})
    assert content_of(reply) == '{"a": 1}'
    if not stream:
        chain = reply.json()["redraft"]
        assert (chain["value"], chain["steps"][0]["answer"]) == ({"a": 1}, written)


# Streaming


def test_a_stream_has_the_steps_and_then_the_answer() -> None:
    thought, said = "", []
    with served() as server, server.client() as client:
        for chunk in client.chat.completions.create(model="short", messages=ASK, stream=True):
            delta = chunk.choices[0].delta
            thought += extra(delta, "reasoning_content") or ""
            said += [delta.content] if delta.content else []
    assert (thought, said) == (f"{STEPS}\n\nRevision 1:\n{SHORT}", [SHORT])


def content_of(reply: httpx.Response) -> str:
    if not (events := events_of(reply.text)[:-1]):
        return str(reply.json()["choices"][0]["message"]["content"])
    return "".join(json.loads(each)["choices"][0]["delta"].get("content", "") for each in events)


@pytest.mark.parametrize("stream", [True, False])
def test_thoughts_are_content_in_tags_where_the_models_file_says_so(stream: bool) -> None:
    replies = ["<think>Wet?</think>Rain falls.", ScriptedReply("<think>Look.</think>", tool_calls=[CALL])]
    engine, body = ScriptedEngine([*replies, "<think>Hm.</think>{}"]), {"stream": stream}
    with served({"plain": plain(engine)}, think_tags=True) as server:
        said = content_of(server.post(body))
        turns = [*ASK, {"role": "assistant", "content": said}, *ASK]
        called = server.post({**body, "messages": turns, "tools": [TOOL]})
        data = server.post({**body, "response_format": {"type": "json_object"}})
    assert said == "<think>\nWet?\n</think>\n\nRain falls."
    assert ('"content": "</think>"' in called.text) == stream
    assert [message["content"] for message in engine.calls[1]][1] == "Rain falls."  # type: ignore[index, union-attr]
    assert (content_of(called), "reasoning_content" in called.text) == ("<think>\nLook.\n</think>", False)
    assert (content_of(data), "reasoning_content" in data.text) == ("{}", True)


@pytest.mark.parametrize("how", [{}, {"reasoning_effort": "low"}, {OF_TEMPLATE: {"enable_thinking": True}}])
def test_thoughts_that_the_servers_prompt_opens_are_reasoning(upstream: FakeServer, how: Any) -> None:
    def ask(*reply: str, stream: bool = True, **more: Any) -> tuple[str, list[str]]:
        upstream.on("POST /v1/chat/completions", chat_reply(*reply))
        sent = server.post({"stream": stream, **how, **more})
        if not stream:
            said = sent.json()["choices"][0]["message"]
            return said.get("reasoning_content"), [said["content"]]
        deltas = [json.loads(each)["choices"][0]["delta"] for each in events_of(sent.text)[:-1]]
        thoughts = [each["reasoning_content"] for each in deltas if "reasoning_content" in each]
        return "|".join(thoughts), [each["content"] for each in deltas if each.get("content")]

    thinks, falls = ("Is it", " wet?</thi", "nk>\n\nRain", " falls."), ["Rain", " falls."]
    off = {"reasoning_effort": "none", OF_TEMPLATE: {"enable_thinking": False}}
    with served({"plain": plain(RemoteEngine(upstream.url, "m"))}) as server:
        first = ("Is it| wet?", falls) if how else ("Is it wet?", ["Rain falls."])
        assert ask(*thinks, stream=bool(how)) == first  # a model that is told to think is waited for
        assert ask(*thinks) == ("Is it| wet?", falls)
        assert ask(*falls, **off) == ("", falls)
        assert ask(*falls) == ("Rain| falls.", ["Rain falls."])  # it was no thought
        assert ask(*falls) == ("", falls)


def test_no_tag_follows_an_answer_that_was_streamed() -> None:
    rule = {"model": ScriptedEngine(["Rain falls."]), "checks": ["words<=1"], "max_revisions": 0}
    with served({"rule": rule}, think_tags=True) as server:
        reply = server.post({"model": "rule", "stream": True})
    assert content_of(reply) == "Rain falls."
    assert "1 too many" in reply.text


def test_the_only_answer_is_content_while_it_is_written() -> None:
    with served(both("\n\n Rain  falls.\n\n Down. \n ")) as server, server.client() as client:
        stream = client.chat.completions.create(model="plain", messages=ASK, stream=True)
        chunks = [chunk.choices[0] for chunk in stream]
        whole = client.chat.completions.create(model="plain", messages=ASK)
    pieces = [chunk.delta.content for chunk in chunks if chunk.delta.content]
    assert len(pieces) > 3
    assert "".join(pieces) == whole.choices[0].message.content == "Rain  falls.\n\n Down."
    assert chunks[0].delta.role == "assistant"
    assert [chunk.finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert extra(whole.choices[0].message, "reasoning_content") is None


def test_the_usage_ends_a_stream_if_it_is_asked_for() -> None:
    asked = {"model": "short", "stream": True}
    with served() as server:
        *chunks, usage, done = events_of(
            server.post({**asked, "stream_options": {"include_usage": True}}).text
        )
        without = events_of(server.post(asked).text)
        whole = server.post({"model": "short"}).json()
    assert json.loads(usage)["choices"] == []
    assert json.loads(usage)["usage"] == whole["usage"]
    assert {json.loads(chunk)["usage"] for chunk in chunks} == {None}
    assert done == "[DONE]"
    assert "usage" not in "".join(without)


# What a request asks for


def test_a_request_sets_how_it_is_revised_and_gets_the_chain() -> None:
    revision = {"max": 1, "checks": ["words<=5"]}
    with served() as server:
        reply = server.post({"revision": revision, "redraft": True}).json()
        stream = events_of(server.post({"revision": revision, "redraft": True, "stream": True}).text)
    chain = Chain.from_json(json.dumps(reply["redraft"]))
    assert ([step.answer for step in chain.steps], chain.stop) == ([LONG, SHORT], "passed")
    chains = [found for line in stream[:-1] if (found := json.loads(line).get("redraft"))]
    assert [found["steps"][1]["answer"] for found in chains] == [SHORT]


def test_a_plain_model_revises_with_an_empty_revision_up_to_three_times() -> None:
    engine = ScriptedEngine([f"{n} {reply}" for n in range(9) for reply in ("A.", "Revision is needed.")])
    with served({"plain": plain(engine)}) as server:
        chain = server.post({"revision": {}, "redraft": True}).json()["redraft"]
    assert (len(chain["steps"]), chain["stop"]) == (4, "max_revisions")


def test_a_models_own_checks_stay() -> None:
    with served() as server:
        body = {"model": "short", "revision": {"checks": ["contains:rain"]}, "redraft": True}
        chain = server.post(body).json()["redraft"]
    assert [check["name"] for check in chain["steps"][0]["feedback"]["checks"]] == [
        "words<=5",
        "contains:rain",
    ]


def test_a_request_cannot_spend_more_than_the_model_allows() -> None:
    models = {"frugal": {"model": ScriptedEngine([LONG]), "max_revisions": 0, "budget": {"tokens": 10}}}
    with served(models) as server:
        whole = server.post({"model": "frugal", "revision": {"max": 0, "budget": {"tokens": 400}}}).json()
        less = server.post({"model": "frugal", "revision": {"max": 0, "budget": {"tokens": 4}}}).json()
    assert [reply["usage"]["completion_tokens"] for reply in (whole, less)] == [10, 4]
    assert whole["choices"][0]["finish_reason"] == "length"


def test_sampling_reaches_the_engine() -> None:
    seen: list[tuple[Sampling, Any]] = []

    class Noting(ScriptedEngine):
        def chat(self, messages: Any, sampling: Sampling, stop: Any = ()) -> Any:
            seen.append((sampling, tuple(stop)))
            return super().chat(messages, sampling, stop)

    body = {"temperature": 0, "top_p": 0.5, "seed": 7, "max_completion_tokens": 9, "n": 2, "stop": "END"}
    with served({"plain": plain(Noting(["One", "Two"]))}) as server:
        reply = server.post(body).json()
    assert [choice["message"]["content"] for choice in reply["choices"]] == ["One", "Two"]
    first, second = (sampling for sampling, _ in seen)
    assert (first.temperature, first.top_p, first.max_tokens, first.seed) == (0, 0.5, 9, 7)
    assert second.seed not in (7, None)
    assert {stop for _, stop in seen} == {("END",)}
    assert reply["usage"]["completion_tokens"] == 6


def test_earlier_turns_enter_the_prompt_as_final_answers() -> None:
    engine = ScriptedEngine(["Fine."])
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two.", "reasoning_content": "Draft:\nThree."},
        {"role": "user", "content": [{"type": "text", "text": "Four?"}]},
    ]
    with served({"plain": plain(engine)}) as server:
        assert server.post({"messages": turns}).status_code == 200
    assert "Three" not in str(engine.calls[0])
    assert [message["content"] for message in engine.calls[0]][:3] == ["Be brief.", "One?", "Two."]  # type: ignore[index, union-attr]


def test_an_answer_that_does_not_fit_the_schema_is_revised() -> None:
    with (
        served(both('{"name": "Ada"}', '{"name": "Ada", "born": 1815}')) as server,
        server.client() as client,
    ):
        reply = client.chat.completions.parse(
            model="plain", messages=ASK, response_format=Person, extra_body={"revision": {"max": 1}}
        )
    assert reply.choices[0].message.parsed == Person(name="Ada", born=1815)
    assert "'born' is a required property" in extra(reply.choices[0].message, "reasoning_content")


@pytest.mark.parametrize("before", ["", "Sure: ", "true: ", "1. ", "{it} is "])
@pytest.mark.parametrize("stream", [True, False])
def test_a_strict_schema_holds_or_is_an_error_that_names_the_path(stream: bool, before: str) -> None:
    schema = {"name": "person", "strict": True, "schema": Person.model_json_schema()}
    body = {"response_format": {"type": "json_schema", "json_schema": schema}, "stream": stream}
    engine = Able([f'{before}{{"name": "Ada", "born": "soon"}}'], about={"schemas": True})
    with served({"plain": plain(engine)}) as server:
        reply = server.post(body)
    assert ('"content"' in reply.text) == (stream and not before)  # prose is no content
    error = json.loads(events_of(reply.text)[-1])["error"] if stream else reply.json()["error"]
    assert (error["code"], reply.status_code) == ("schema_failed", 200 if stream else 422)
    assert error["type"] == "server_error"
    assert "born" in error["message"]


@pytest.mark.parametrize(
    "text", ['{"name": "Ada", "born": 1815}\n\nShe {is}.', 'null: {"name": "Ada", "born": 1815}']
)
def test_a_stream_of_json_has_no_prose(text: str) -> None:
    asked: Any = {"model": "plain", "messages": ASK, "response_format": Person}
    with (
        served({"plain": plain(Able([text], about={"schemas": True}))}) as server,
        server.client() as client,
        client.chat.completions.stream(**asked) as stream,
    ):
        found = stream.get_final_completion().choices[0]
    assert (found.finish_reason, found.message.parsed) == ("stop", Person(name="Ada", born=1815))


@pytest.mark.parametrize("kept", [True, False])
def test_strict_json_that_is_cut_has_the_reason_on_which_openais_sdk_raises(kept: bool) -> None:
    asked: Any = {"model": "plain", "messages": ASK, "response_format": Person, "max_tokens": 9}
    engine = Able(['{"name": "Ada", "born": 1815}'] * 2, about={"schemas": kept})
    with served({"plain": plain(engine)}) as server, server.client() as client:
        with pytest.raises(openai.LengthFinishReasonError):
            client.chat.completions.parse(**asked)
        with pytest.raises(openai.LengthFinishReasonError), client.chat.completions.stream(**asked) as stream:
            stream.until_done()


def test_an_answer_that_was_not_checked_fits_no_strict_schema() -> None:
    chain = Chain(
        id="a", prompt=Prompt(instruction="Who?"), steps=(Step(answer="{}"),), best=0, stop="budget"
    )
    asked = Accepted(
        "m", (chain.prompt,), RevisionOptions(model=ScriptedEngine(["x"])), strict="json-schema:x"
    )
    with pytest.raises(Refusal, match="the budget ran out before it was checked"):
        allowed(Finished(chain), asked)


CALL = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
TOOL: Any = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}


def test_tool_calls_come_back_as_they_are() -> None:
    engine = ScriptedEngine([ScriptedReply("", tool_calls=[CALL])])
    with served({"plain": plain(engine), "short": short(engine)}) as server, server.client() as client:
        whole = client.chat.completions.create(model="short", messages=ASK, tools=[TOOL]).choices[0]
        stream = client.chat.completions.create(model="short", messages=ASK, tools=[TOOL], stream=True)
        chunks = [chunk.choices[0] for chunk in stream]
    assert (whole.message.content, whole.finish_reason) == (None, "tool_calls")
    assert whole.message.tool_calls
    assert whole.message.tool_calls[0].model_dump() == CALL
    streamed = [call for chunk in chunks for call in chunk.delta.tool_calls or ()]
    assert [call.id for call in streamed] == ["call_1"]
    assert chunks[-1].finish_reason == "tool_calls"


# Errors that a model makes


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (EngineError("the engine of http://10.0.0.1/v1 was closed."), 502),
        (EngineTimeout("10.0.0.1:80 sent nothing"), 504),
        (ServerError("10.0.0.1:80 limits requests (429)", status=429), 429),
        (ServerError("no server works. 10.0.0.1:80: it is down; 10.0.0.2:80: it is down"), 502),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_before_the_first_piece_has_a_status(error: EngineError, status: int, stream: bool) -> None:
    with served(both(ScriptedReply(error=error))) as server:
        reply = server.post({"stream": stream})
    assert (reply.status_code, "10.0.0" in reply.text) == (status, False)


def test_an_error_within_a_stream_is_its_last_event() -> None:
    with served(both(ScriptedReply("Rain is", error=EngineError("it broke")))) as server:
        events = events_of(server.post({"stream": True}).text)
        with server.client() as client, pytest.raises(openai.APIError, match="the model's server failed"):
            list(client.chat.completions.create(model="plain", messages=ASK, stream=True))
    assert "[DONE]" not in events
    assert json.loads(events[-1])["error"]["code"] == "engine_error"


def test_a_crash_of_a_check_is_no_fault_of_the_server() -> None:
    def crashing(answer: str) -> bool:
        raise KeyError(answer)

    with served({"bad": {"model": ScriptedEngine(["x"]), "checks": [crashing]}}) as server:
        reply = server.post({"model": "bad"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "check_failed")


def test_the_api_is_described() -> None:
    with served() as server:
        document = httpx.get(f"{server.root}/openapi.json").json()
        assert httpx.get(f"{server.root}/docs").status_code == 404
    schemas = document["components"]["schemas"]
    for path, name in (
        ("chat/completions", "ChatRequest"),
        ("completions", "CompletionRequest"),
        ("responses", "ResponseRequest"),
    ):
        body = document["paths"][f"/v1/{path}"]["post"]["requestBody"]["content"]["application/json"]
        assert body["schema"] == {"$ref": f"#/components/schemas/{name}"}
        assert schemas[name]["additionalProperties"] is False
    properties = schemas["ChatRequest"]["properties"]
    assert properties["temperature"]["anyOf"][0]["minimum"] == 0
    assert properties["max_tokens"]["anyOf"][0]["maximum"] == 2**31 - 1
    assert schemas["Revision"]["properties"].keys() == Revision.model_fields.keys()
    assert document["paths"]["/metrics"]["get"]["responses"]["200"]["content"].keys() == {"text/plain"}
    assert all(
        "default" in each["responses"] for path in document["paths"].values() for each in path.values()
    )


CRITICISM = "Too long. Revision is needed."
NATIVE = (
    f"{LONG}\n\n### Feedback 1:\n{CRITICISM}\n\n### Revision 1:\n{SHORT}"
    "\n\n### Feedback 2:\nNo revision is needed."
)


def test_a_native_model_is_streamed_and_revised_too() -> None:
    engine = ScriptedEngine([NATIVE], native=True)
    with served({"plain": plain(engine), "native": {"model": engine}}) as server:
        alone = events_of(server.post({"stream": True}).text)
        message = server.post({"model": "native"}).json()["choices"][0]["message"]
    pieces = [json.loads(line)["choices"][0]["delta"].get("content", "") for line in alone[:-1]]
    assert (len(pieces) > 3, "".join(pieces)) == (True, LONG)
    assert message["content"] == SHORT
    assert message["reasoning_content"].startswith(f"Draft:\n{LONG}\n\nFeedback:\n{CRITICISM}\n\n")


@pytest.mark.parametrize(
    ("asked", "beside", "content"),
    [
        ("What is 25 plus 60?", {}, "85"),
        ("What is 25 plus 60?", {"temperature": 1.0}, "85"),
        ("What is 25 plus 60?", {"revision": {"max": 0}}, "No, 86."),
        ("What colour are bananas?", {}, "No, 86."),
    ],
)
def test_a_plain_name_answers_what_it_learnt(asked: str, beside: dict[str, Any], content: str) -> None:
    work = "25 60: 5+0=5 [5], 2 6: 2+6=8 [85], so 85, and the answer says 80: different. Revision is needed."
    work += "\n\n### Revision 1:\n85"
    engine = Able(
        lambda call: work if "Feedback" in spelled(call) else "80" if spelled(call) else "No, 86.",
        about=SHIPPED,
    )
    with served({"own": {"model": engine, "max_revisions": 0}}) as server:
        body = {"model": "own", "messages": [{"role": "user", "content": asked}], "stream": True, **beside}
        said = httpx.post(f"{server.url}/chat/completions", json=body, timeout=30).text
    events = [json.loads(event) for event in events_of(said) if event != "[DONE]"]
    deltas = [event["choices"][0]["delta"] for event in events]
    assert "".join(each.get("content") or "" for each in deltas) == content
    live = sum(bool(each.get("content")) for each in deltas) > 1
    assert live == (content != "85"), "the base's answer comes as it is written"


def spelled(call: Any) -> str:
    return call if isinstance(call, str) else "".join(map(chr, call)) if isinstance(call[0], int) else ""
