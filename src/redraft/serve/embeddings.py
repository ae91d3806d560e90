"""`/v1/embeddings`: vectors of texts, as the server behind a model gives them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from redraft.chain import Usage
from redraft.engines.remote.engine import RemoteEngine
from redraft.revision.cancel import CancelToken, OutOfTime
from redraft.serve.errors import invalid
from redraft.serve.gate import unavailable
from redraft.serve.models import Models
from redraft.serve.reader import ServerLimits
from redraft.serve.replies import Reply
from redraft.serve.requests import Accepted, ModelRequest


class EmbeddingRequest(ModelRequest):
    """A request for vectors. Its server judges the fields."""

    whole: ClassVar[str] = "a request for embeddings"
    input: Any
    dimensions: Any = None
    encoding_format: Any = None

    def accept(self, models: Models, limits: ServerLimits) -> Accepted:  # noqa: ARG002
        """Return what goes to the server."""
        model = models.named(self.model)
        if not isinstance(model.options.model, RemoteEngine):
            message = f"the model {model.name!r} has no embeddings. Ask a model of a server."
            raise invalid(message, "model", code="unsupported")
        names = self.model_fields_set & {"input", "dimensions", "encoding_format"}
        return Accepted(model.name, ({name: getattr(self, name) for name in names},), model.options)


async def embedded(asked: Accepted, cancel: CancelToken) -> AsyncGenerator[tuple[int, dict[str, Any]], None]:
    """Yield the reply of the server."""
    engine: Any = asked.options.model
    try:
        async with cancel.until(None):
            found = await engine.embed(asked.inputs[0])
    except OutOfTime:
        raise unavailable("draining", "the server ends.") from None
    yield 0, found


@dataclass
class Embedded:
    """The reply of the server. There is no chain; the log asks for it."""

    chain: None = None
    found: dict[str, Any] = field(default_factory=dict)

    def take(self, found: dict[str, Any]) -> Iterator[str]:
        """Take the reply. Yield nothing: it is not streamed."""
        self.found = found
        return iter(())

    @property
    def usage(self) -> Usage:
        """The tokens that were read, as far as the server says."""
        usage = self.found.get("usage")
        read = usage.get("prompt_tokens") if isinstance(usage, dict) else 0
        return Usage(prompt_tokens=read if isinstance(read, int) and read >= 0 else 0)


class EmbeddingReply(Reply):
    """The object that answers one request. It is not streamed."""

    asked_in = "input"
    messages: Sequence[Embedded]

    def __init__(self, asked: Accepted) -> None:
        super().__init__(asked, [Embedded()])

    def whole(self) -> dict[str, Any]:
        """Return the whole reply."""
        return {**self.messages[0].found, "model": self.asked.model}

    def events(self, _index: int, _found: dict[str, Any]) -> Iterator[bytes]:
        """Yield nothing."""
        return iter(())
