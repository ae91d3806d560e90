from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.engines.base import Sampling
from redraft.engines.remote.wire import (
    CallPiece,
    Chunk,
    Complaint,
    TokenCounts,
    adapted,
    chat_body,
    completion_body,
    read_chunk,
    read_complaint,
)


def test_logarithms_of_probabilities_are_asked_for_in_the_words_of_each_route() -> None:
    how = Sampling(logprobs=True)
    assert chat_body("m", [{"role": "user", "content": "Hi"}], how, [])["logprobs"] is True
    assert completion_body("m", "Hi", how, [])["logprobs"] == 1
    how = Sampling(logprobs=True, top_logprobs=3)
    assert chat_body("m", [{"role": "user", "content": "Hi"}], how, [])["top_logprobs"] == 3
    assert completion_body("m", "Hi", how, [])["logprobs"] == 3


@pytest.mark.parametrize(
    "logprobs",
    [
        {"content": [{"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -0.1}, 3]}]},
        {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -0.1, "c": None}]},
        {"content": [{"token": "a", "logprob": -0.5, "top_logprobs": []}, {"token": "b", "logprob": 0}]},
        {"tokens": ["a", "b"], "token_logprobs": [-0.5, 0], "top_logprobs": None},
    ],
)
def test_logarithms_of_probabilities_and_the_likeliest_tokens_of_either_route(logprobs: Any) -> None:
    found = read_chunk({"choices": [{"text": "ab", "logprobs": logprobs}]})
    assert found.logprobs == ((-0.5,) if found.likeliest else (-0.5, 0.0))
    assert found.likeliest in ((), ((("b", -0.1),),))


@pytest.mark.parametrize("wrong", [None, [1], {"content": [3]}, {"token_logprobs": ["x", 10**400, None]}])
def test_logarithms_that_are_none(wrong: Any) -> None:
    assert read_chunk({"choices": [{"text": "ab", "logprobs": wrong}]}).logprobs == ()


def test_what_only_repeats_a_default_is_not_sent() -> None:
    body = completion_body("m", "Hi", Sampling(), ())
    assert body.keys() == {"model", "prompt", "stream", "stream_options", "temperature", "max_tokens"}


@pytest.mark.parametrize(
    ("choice", "chunk"),
    [
        ({"delta": {"role": "assistant", "content": ""}}, Chunk()),
        ({"delta": {"content": "a"}}, Chunk("a", generated=True)),
        ({"message": {"content": "a"}, "finish_reason": "stop"}, Chunk("a", True, "stop")),
        ({"text": "a", "finish_reason": None}, Chunk("a", generated=True)),
        ({"delta": {"reasoning_content": "Hm."}}, Chunk(generated=True, thought="Hm.")),
        ({"delta": {"reasoning": "Hm.", "content": None}}, Chunk(generated=True, thought="Hm.")),
        ({"delta": {"tool_calls": [{"function": {"name": "search", "arguments": ""}}]}},
         Chunk(generated=True, calls=(CallPiece(0, "", "search", ""),))),
        ({"delta": {"function_call": {"arguments": "{}"}}},
         Chunk(generated=True, calls=(CallPiece(0, "", "", "{}"),))),
        ({"delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}},
         Chunk(generated=True, calls=(CallPiece(0, "", "", "{}"),))),
        ({"message": {"refusal": "No."}}, Chunk(generated=True, refusal="No.")),
        ({"delta": {"content": [{"type": "thinking"}, {"type": "text", "text": "a"}]}},
         Chunk("a", generated=True)),
        ({"delta": {}, "finish_reason": "length"}, Chunk(finish="max_tokens")),
        ({"delta": {}, "finish_reason": "content_filter"}, Chunk(finish="filtered")),
        ({"delta": {}, "finish_reason": "eos"}, Chunk(finish="stop")),
        ({"text": "", "finish_reason": "stop", "stop_reason": "END"}, Chunk(finish="stop", stop_text="END")),
        ({"text": "", "finish_reason": "stop", "stop_reason": 2}, Chunk(finish="stop")),
        ({"text": "", "finish_reason": "stop", "matched_stop": "END"}, Chunk(finish="stop", stop_text="END")),
    ],
)  # fmt: skip
def test_a_choice(choice: dict[str, Any], chunk: Chunk) -> None:
    assert read_chunk({"choices": [choice]}) == chunk


@pytest.mark.parametrize(("more", "cached"), [({}, None), ({"cached_tokens": 4}, 4)])
def test_counts(more: dict[str, int], cached: int | None) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": more}
    assert read_chunk({"choices": [], "usage": usage}) == Chunk(counts=TokenCounts(5, cached, 3))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["delta", "content", "text", "usage", "finish_reason", "error", "message"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(json_values)
def test_no_record_breaks_the_reader(value: Any) -> None:
    with suppress(ValueError):
        assert isinstance(read_chunk({"choices": [value]}).text, str)
    assert isinstance(read_complaint({"error": value}), Complaint | None)


def complaint(message: str) -> Complaint:
    found = read_complaint({"error": {"message": message}})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("record", "message", "code"),
    [
        ({"error": {"message": "m", "type": "t", "code": "c"}}, "m", "c t"),
        ({"error": "m"}, "m", ""),
        ({"object": "error", "message": "m", "type": "t"}, "m", "t"),
        ({"detail": "Not Found"}, "Not Found", ""),
    ],
)
def test_complaints_of_every_shape(record: dict[str, Any], message: str, code: str) -> None:
    found = read_complaint(record)
    assert found is not None
    assert (found.message, found.code) == (message, code)


def test_what_is_no_complaint() -> None:
    assert read_complaint({"choices": []}) is None
    assert read_complaint([]) is None


@pytest.mark.parametrize(
    ("message", "about_model"),
    [
        ("The model `x` does not exist", True),
        ('model "x" not found, try pulling it first', True),
        ("No such model", True),
        ("Not Found", False),
    ],
)
def test_about_model(message: str, about_model: bool) -> None:
    assert complaint(message).about_model is about_model


@pytest.mark.parametrize(
    ("message", "prompt", "context"),
    [
        ("maximum context length is 90 tokens. However, your messages resulted in 99 tokens.", 99, 90),
        ("maximum context length is 9 tokens. However, you requested 15 (8 in the messages, 7 in it)", 8, 9),
        ("'max_tokens' or 'max_completion_tokens' is too large: 2048. This model's maximum context length is 2048 tokens and your request has 30 input tokens (2048 > 2048 - 30).", 30, 2048),  # noqa: E501
        ("OpenAIException - request (4534 tokens) exceeds the available context size (2048 tokens), try increasing it", 4534, 2048),  # noqa: E501
        ("Requested token count exceeds the model's maximum context length of 90 tokens. You requested a total of 99 tokens: 59 tokens from the input messages and 40 tokens for the completion.", 59, 90),  # noqa: E501
        ("max_tokens must be positive", None, None),
    ],
)  # fmt: skip
def test_lengths_in_the_words_of_servers(message: str, prompt: int | None, context: int | None) -> None:
    found = complaint(message)
    assert (found.prompt_tokens, found.context) == (prompt, context)


def test_lengths_as_llama_cpp_gives_them() -> None:
    record = {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 831, "n_ctx": 256}
    found = read_complaint({"error": record})
    assert found is not None
    assert (found.prompt_tokens, found.context) == (831, 256)


class TestAdapted:
    BODY = chat_body("m", [], Sampling(max_tokens=2048), ())

    def test_half_where_the_prompt_was_not_counted_to_its_end(self) -> None:
        said = "maximum context length is 2100 tokens. Your prompt contains at least 53 input tokens"
        assert adapted(self.BODY, complaint(said)) == {**self.BODY, "max_tokens": 1024}

    @pytest.mark.parametrize("prompt", [2040, 2048, 5000])
    def test_a_prompt_that_leaves_no_room(self, prompt: int) -> None:
        said = f"maximum context length is 2048 tokens and your request has {prompt} input tokens"
        assert adapted(self.BODY, complaint(said)) is None

    def test_another_complaint(self) -> None:
        assert adapted(self.BODY, complaint("temperature must be at most 2")) is None

    @given(st.integers(1, 5000), st.integers(1, 5000), st.booleans())
    def test_adapting_comes_to_an_end(self, prompt: int, context: int, at_least: bool) -> None:
        found = Complaint("", prompt_tokens=prompt, at_least=at_least, context=context)
        body: dict[str, Any] | None = self.BODY
        for _ in range(10):  # half until it is below 16
            body = body and adapted(body, found)
        assert body is None


@pytest.mark.parametrize("count", [-1, 10**400])
def test_counts_that_cannot_be_are_unknown(count: int) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": count}
    assert read_chunk({"choices": [], "usage": usage}).counts is None


def test_a_length_of_thousands_of_digits_is_none() -> None:
    complaint = read_complaint({"error": f"The maximum context length is {'9' * 5000}, and 7 in the prompt."})
    assert complaint is not None
    assert complaint.context is None


def test_of_several_choices_only_the_first_is_read() -> None:
    first, second = ({"index": n, "delta": {"content": text}} for n, text in enumerate(["One.", "Two."]))
    assert read_chunk({"choices": [first]}).text == "One."
    assert read_chunk({"choices": [second, first]}).text == "One."
    alone = read_chunk({"choices": [{**second, "finish_reason": "stop"}]})
    assert (alone.text, alone.finish, alone.generated) == ("", None, False)
    assert read_chunk({"choices": [{"delta": {"content": "No index."}}]}).text == "No index."
    assert read_chunk({"choices": None}) == Chunk()
    for wrong in ("", 0, False, {}):
        with pytest.raises(ValueError, match="no choices"):
            read_chunk({"choices": wrong})
