"""Define the models that a server offers: names, engines and options of chains."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

from redraft.engines.base import Engine, Health, Message, Sampling, Watched
from redraft.errors import RedraftError, nearest
from redraft.revision.options import RevisionOptions
from redraft.revision.promise import Watch
from redraft.serve.errors import Refusal
from redraft.serve.gate import unavailable


def watched_in(options: RevisionOptions) -> list[Watched]:
    """Return the engines in a chain's options that report health."""
    engines: list[Any] = [options.model, options.critic, options.judge]
    return [engine for engine in engines if isinstance(engine, Watched)]


async def _one_token(engine: Engine) -> None:
    asked: Message = {"role": "user", "content": "Hi."}
    one = Sampling(max_tokens=1)
    with suppress(RedraftError):
        async for _ in engine.chat([asked], one) if engine.info.chats else engine.stream("Hi.", one):
            pass


@dataclass(frozen=True)
class Model:
    """A model that clients may use."""

    name: str
    options: RevisionOptions
    withheld: str = ""  # the text that replaces an answer that fails its checks
    think_tags: bool = False  # whether thoughts are part of a chat's content, in `<think>` tags
    watch: Watch | None = None  # checks whether the promise of the model's recipe holds
    # The Unix time at which the model was opened.
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def record(self) -> dict[str, Any]:
        """The model's entry in `/v1/models`, with the default options."""
        options = self.options.model_copy(update=self.watch.instead if self.watch else {})
        engine = cast("Engine", options.model)
        does = {
            "min": options.min_revisions,
            "max": options.most_revisions,
            "mode": options.mode,
            "drafts": options.most_drafts,
            "checks": [str(getattr(check, "name", check)) for check in options.checks],
            "images": engine.info.any_message,
            "context": engine.info.context,
            "weights": engine.info.parameters,
        }
        own = {"object": "model", "created": self.created, "owned_by": "redraft"}
        return {"id": self.name, **own, "redraft": does}


class Models:
    """The models by name."""

    def __init__(self, passes: Mapping[str, frozenset[str]] | None = None) -> None:
        self.passes = passes or {}  # the fields beyond OpenAI's that each model's server accepts
        self._by_name: Mapping[str, Model] | None = None
        self.down: frozenset[str] = frozenset()  # names of models whose servers do not answer yet
        self._probes: dict[int, asyncio.Task[None]] = {}

    def offer(self, models: Iterable[Model], down: Iterable[str] = ()) -> None:
        """Replace the offered models. `down` names models whose servers do not answer yet."""
        self._by_name, self.down = {model.name: model for model in models}, frozenset(down)

    def within(self, allowed: Callable[[str], bool]) -> Models:
        """Return only the models with allowed names."""
        found = Models({name: fields for name, fields in self.passes.items() if allowed(name)})
        if self._by_name is not None:
            models = [model for model in self._by_name.values() if allowed(model.name)]
            found.offer(models, filter(allowed, self.down))
        return found

    def all(self) -> list[Model]:
        """Return the models. Raise `Refusal` while the models are loading."""
        if self._by_name is None:
            raise unavailable("loading", "the models are still being loaded.")
        return list(self._by_name.values())

    def probe(self) -> None:
        """Check in the background whether engines in trouble work again."""
        for engine in self._engines():
            last, health = self._probes.get(id(engine)), engine.health
            if health.trouble and not health.resting and (last is None or last.done()):
                self._probes[id(engine)] = asyncio.create_task(_one_token(engine))

    def _engines(self) -> list[Watched]:
        models = (self._by_name or {}).values()
        engines = (engine for model in models for engine in watched_in(model.options))
        return [*{id(engine): engine for engine in engines}.values()]

    def watched(self) -> dict[str, Health]:
        """Return the health of engines by engine name."""
        found: dict[str, Health] = {}
        for engine in self._engines():
            before, now = found.get(engine.info.name, Health()), engine.health
            found[engine.info.name] = Health(before.restarts + now.restarts, before.trouble or now.trouble)
        return found

    def promises(self) -> dict[str, Watch]:
        """Return, by model name, the `promise.Watch` of each model whose recipe has a promise to check."""
        return {model.name: model.watch for model in (self._by_name or {}).values() if model.watch}

    def named(self, name: str, param: str = "model") -> Model:
        """Return the model called `name`. Errors name `param`, the request's field for the name."""
        found = {model.name: model for model in self.all()}
        if name in found:
            return found[name]
        if name in self.down:
            raise unavailable("engine_down", f"the server of the model {name!r:.100} does not answer.")
        near = nearest(name, found) or nearest(name.removesuffix("-revise"), found)
        hint = near or (f"Models: {', '.join(found)}" if found else "No model is available to you now.")
        message = f"the model {name!r:.100} does not exist. {hint}"
        raise Refusal(HTTPStatus.NOT_FOUND, "model_not_found", message, param=param)
