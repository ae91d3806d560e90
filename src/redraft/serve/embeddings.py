"""Serve `/v1/embeddings`: the model's server turns texts into vectors."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from fastapi.responses import JSONResponse
from pydantic import Field

from redraft.chain import Usage
from redraft.engines.pool import PoolEngine
from redraft.engines.remote.engine import RemoteEngine
from redraft.errors import EngineError
from redraft.revision.cancel import OutOfTime
from redraft.serve.bodies import Body
from redraft.serve.errors import invalid, refusal_of
from redraft.serve.gate import Gate, ending
from redraft.serve.models import Model


class EmbeddingRequest(Body):
    """A request for embedding vectors. The model's server checks the fields."""

    whole: ClassVar[str] = "a request for embeddings"
    model: Annotated[str, Field(description="the name of a model")]
    input: Any
    dimensions: Any = None
    encoding_format: Any = None
    user: Any = None


async def embedded(asked: EmbeddingRequest, model: Model, gate: Gate, seen: dict[str, Any]) -> JSONResponse:
    """Return the reply of a model's server, and store the usage in `seen`, the ASGI state of the request."""
    engine = model.options.model
    if not isinstance(engine, RemoteEngine | PoolEngine) or engine.info.engine != "remote":
        message = f"the model {model.name!r} cannot make embeddings. Use a model on a remote server."
        raise invalid(message, "model", code="unsupported")
    seen["model"] = model.name
    try:
        async with gate.entered(engine, model=model.name) as cancel, cancel.until(None):
            found = await engine.embed(asked.model_dump(exclude={"model", "user"}, exclude_unset=True))
    except OutOfTime:
        raise ending() from None
    except Exception as error:
        raise refusal_of(error, "input") from error
    usage = found.get("usage")
    read = usage.get("prompt_tokens") if isinstance(usage, dict) else 0
    seen["usage"] = Usage(prompt_tokens=read if isinstance(read, int) and 0 <= read < 1 << 53 else 0)
    try:
        return JSONResponse({**found, "model": model.name})
    except ValueError:  # infinity or a lone surrogate: Python parses it, but it is not JSON
        message = f"the server of {model.name!r} sent vectors that are not JSON."
        raise refusal_of(EngineError(message)) from None
