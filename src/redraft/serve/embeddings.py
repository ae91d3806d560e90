"""`/v1/embeddings`: vectors of texts, from models that have them: embedding models in GGUF, and servers."""

from __future__ import annotations

import base64
from array import array
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from redraft.chain import Chain, Usage
from redraft.engines.base import Embedder, Vectors
from redraft.errors import shown
from redraft.revision.cancel import CancelToken
from redraft.revision.options import Options
from redraft.serve.errors import Refusal, invalid
from redraft.serve.limits import Limits
from redraft.serve.models import Models
from redraft.serve.requests import WITHOUT_EFFECT, check_names, texts_in, typed

FORMATS = ("float", "base64")

FIELDS = ("model", "input", "encoding_format", *WITHOUT_EFFECT)


@dataclass(frozen=True)
class AskedVectors:
    """A request that was checked.

    Attributes:
        model: The name that was asked.
        texts: The texts.
        options: Those of the model; its engine is an `Embedder`.
        packed: Send each vector as floats of 32 bits in base64, as the openai SDK asks for.
    """

    model: str
    texts: tuple[str, ...]
    options: Options
    packed: bool
    stream: bool = False


def embeddings_request(body: Mapping[str, Any], models: Models, limits: Limits) -> AskedVectors:
    """Check the body of a request.

    Raises:
        Refusal: A field is wrong; `param` names it. Or there is no such model, or it has no vectors.
    """
    check_names(body, FIELDS, "a request for embeddings")
    model = models.named(typed(body, "model", str, "the name of a model"))
    engine: Any = model.options["model"]
    if not (isinstance(engine, Embedder) and engine.info.embeds):
        message = f"the model {model.name!r} has no embeddings. Ask an embedding model."
        raise invalid(message, "model", code="unsupported")
    texts = texts_in(body, "input")
    if len(texts) > limits.texts:
        raise invalid(f"input has {len(texts):,} texts, and this server allows {limits.texts:,}.", "input")
    form = typed(body, "encoding_format", str, "float or base64", "float")
    if form not in FORMATS:
        raise invalid(f"encoding_format is {shown(form)}. It should be float or base64.", "encoding_format")
    return AskedVectors(model.name, tuple(texts), model.options, form == "base64")


async def embedded(asked: AskedVectors, _cancel: CancelToken) -> AsyncGenerator[tuple[int, Vectors], None]:
    """Yield the vectors of all texts."""
    engine: Any = asked.options["model"]
    yield 0, await engine.embed(asked.texts)


@dataclass
class Embedded:
    """The vectors of a request. There is no chain; the log asks for it."""

    chain: Chain | None = None
    vectors: Vectors = field(default_factory=lambda: Vectors((), 0))

    def take(self, vectors: Vectors) -> Iterator[str]:
        """Take the vectors. Yield nothing: they are not streamed."""
        self.vectors = vectors
        return iter(())

    @property
    def usage(self) -> Usage:
        """The tokens that were read."""
        return Usage(prompt_tokens=self.vectors.tokens)


class EmbeddingReply:
    """The object that answers one request. Its methods are those of `replies.Reply`, without a stream's."""

    asked_in = "input"

    def __init__(self, asked: AskedVectors) -> None:
        self.asked = asked
        self.messages = [Embedded()]

    def completion(self) -> dict[str, Any]:
        """Return the whole reply."""
        found = self.messages[0].vectors
        data = [
            {"object": "embedding", "index": index, "embedding": _packed(each) if self.asked.packed else each}
            for index, each in enumerate(found.vectors)
        ]
        usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
        return {"object": "list", "data": data, "model": self.asked.model, "usage": usage}

    def failed(self, refusal: Refusal) -> bytes:
        """Raise: nothing is streamed, so no stream fails."""
        raise refusal


def _packed(vector: tuple[float, ...]) -> str:
    return base64.b64encode(array("f", vector).tobytes()).decode()
