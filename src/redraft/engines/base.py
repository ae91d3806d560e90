"""What an engine is: something that continues text, or answers messages, token by token.

One small protocol, async only. Engines differ in what they can do, and say so in `EngineInfo`; the loop
chooses accordingly. Closing a stream's iterator cancels the work in the engine. Batching is the engine's
affair: callers just open many streams at once.

Retries, prompts and formats are not decided here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, Protocol, TypedDict

from redraft.chain import Finish

Tokens = tuple[int, ...]
PromptText = str | Tokens
"""What `Engine.stream` continues: a text, or token ids where `EngineInfo.token_ids` says so."""


class Message(TypedDict):
    """One message of a chat, as in the OpenAI protocol.

    Every engine takes text from `system`, `user` and `assistant`. The rest needs `EngineInfo.any_message`.

    Attributes:
        role: `system`, `developer`, `user`, `assistant` or `tool`.
        content: A text, a list of parts such as images, or None beside `tool_calls`.
        name: Who speaks.
        tool_calls: The calls that the assistant makes.
        tool_call_id: The call that a `tool` message answers.
    """

    role: str
    content: str | list[dict[str, Any]] | None
    name: NotRequired[str]
    tool_calls: NotRequired[list[dict[str, Any]]]
    tool_call_id: NotRequired[str]


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: 0 is greedy. 0.7 is SelFee's released default (reference/selfee.md).
        top_p: Nucleus size, in (0, 1].
        max_tokens: Most new tokens of one call of the engine. 2,048 is SelFee's released default.
        seed: Makes a run repeatable on the same engine and batch; None draws one.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 2048
    seed: int | None = None


@dataclass(frozen=True)
class Delta:
    """A piece of a stream. The last one has `finish`, and the counts.

    Attributes:
        text: New text, possibly empty.
        tokens: Ids of the tokens that `text` is made of, where the engine gives them. Tokens of a stop
            string, or of a character that is not complete yet, may come ahead of their text.
        finish: Why the stream ended; None before the end.
        stop_text: The stop string that ended it. It is not part of `text`.
        prompt_tokens: Length of the prompt in tokens, cached ones included; on the last delta.
        cached_tokens: How many of those the engine did not have to compute again.
        completion_tokens: How many tokens were generated.
        aside: What else came beside the text, in words, such as "a call of the tool 'search'"; on the last
            delta.
    """

    text: str = ""
    tokens: Tokens = ()
    finish: Finish | None = None
    stop_text: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    aside: str = ""


@dataclass(frozen=True)
class EngineInfo:
    """What an engine is and can do.

    Attributes:
        name: The model's name, for records and messages.
        engine: The kind: llamacpp, remote, hf or scripted.
        context: Length of the context in tokens; None where it is not known.
        continues: Can continue raw text (`stream`); needed for native revision.
        token_ids: Takes token ids as a prompt and reports them in deltas; has `encode` and `decode`.
        aligned: The tokens of a delta are those of its text. Not so where a server sends ids at once and
            holds text back; what is cut there is encoded again.
        chats: Can answer messages (`chat`).
        any_message: Takes every `Message` of the OpenAI protocol. Others take plain text from `system`,
            `user` and `assistant` (`engines.messages`).
        native: The model says that it was trained on chains (`redraft.format = selfee-1`).
    """

    name: str
    engine: str
    context: int | None = None
    continues: bool = True
    token_ids: bool = False
    aligned: bool = True
    chats: bool = True
    any_message: bool = False
    native: bool = False


class Engine(Protocol):
    """A model that can be asked. Methods raise `EngineError`."""

    @property
    def info(self) -> EngineInfo:
        """What this engine is and can do."""
        ...

    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Token ids of a text.

        Args:
            text: Any text.
            special: True for the start of a prompt: adds the beginning-of-text token where the model has one.
        """
        ...

    async def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids."""
        ...

    def stream(
        self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = ()
    ) -> AsyncGenerator[Delta, None]:
        """Continues a raw text. The last delta has `finish`; closing the generator cancels the work."""
        ...

    def chat(
        self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()
    ) -> AsyncGenerator[Delta, None]:
        """Answers messages with the model's own chat template. Same deltas as `stream`."""
        ...

    async def aclose(self) -> None:
        """Gives back what the engine holds. Closing twice does no harm."""
        ...
