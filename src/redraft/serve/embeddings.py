"""`/v1/embeddings`: vectors of texts, from models that have them: embedding models in GGUF, and servers."""

from __future__ import annotations

import base64
from array import array
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from redraft.chain import Chain, Usage
from redraft.engines.base import Embedder, Vectors
from redraft.engines.remote.wire import estimated_counts
from redraft.revision.cancel import CancelToken, OutOfTime
from redraft.serve.bodies import OF_INPUTS, inputs
from redraft.serve.errors import invalid
from redraft.serve.gate import unavailable
from redraft.serve.models import Models
from redraft.serve.reader import Limits
from redraft.serve.replies import Reply
from redraft.serve.requests import Accepted, ModelRequest

TEXTS = 2048  # most texts of one request


class EmbeddingRequest(ModelRequest):
    """A request for vectors."""

    whole: ClassVar[str] = "a request for embeddings"
    passes: ClassVar[bool] = False
    input: Annotated[Any, inputs(TEXTS), Field(description=OF_INPUTS)]
    dimensions: Annotated[int | None, Field(ge=1, le=1 << 20)] = None
    encoding_format: Annotated[Literal["float", "base64"] | None, Field(description="float or base64")] = None

    def accept(self, models: Models, limits: Limits) -> Accepted:  # noqa: ARG002
        """Return the texts."""
        model = models.named(self.model)
        engine: Any = model.options.model
        if not (isinstance(engine, Embedder) and engine.info.embeds):
            message = f"the model {model.name!r} has no embeddings. Ask an embedding model."
            raise invalid(message, "model", code="unsupported")
        if self.dimensions is not None and not engine.info.any_request:
            message = f"the model {model.name!r} has no choice of dimensions. Leave them out."
            raise invalid(message, "dimensions", code="unsupported")
        packed = self.encoding_format == "base64"
        return Accepted(model.name, self.input, model.options, packed=packed, dimensions=self.dimensions)


async def embedded(asked: Accepted, cancel: CancelToken) -> AsyncGenerator[tuple[int, Vectors], None]:
    """Yield the vectors of all texts; none, and an estimate of their tokens, before it is cut."""
    engine: Any = asked.options.model
    try:
        async with cancel.until(None):
            vectors = await engine.embed(asked.inputs, asked.dimensions)
    except OutOfTime:
        yield 0, Vectors((), sum(estimated_counts({"prompt": text}, 0).prompt for text in asked.inputs))
        raise unavailable("draining", "the server ends.") from None
    yield 0, vectors


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


class EmbeddingReply(Reply):
    """The object that answers one request. It is not streamed."""

    asked_in = "input"
    messages: Sequence[Embedded]

    def __init__(self, asked: Accepted) -> None:
        super().__init__(asked, [Embedded()])

    def whole(self) -> dict[str, Any]:
        """Return the whole reply."""
        found = self.messages[0].vectors
        vectors: list[Any] = list(found.vectors)
        if self.asked.packed:
            vectors = [base64.b64encode(array("f", vector).tobytes()).decode() for vector in vectors]
        data = [
            {"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(vectors)
        ]
        usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
        return {"object": "list", "data": data, "model": self.asked.model, "usage": usage}

    def events(self, _index: int, _vectors: Vectors) -> Iterator[bytes]:
        """Yield nothing."""
        return iter(())
