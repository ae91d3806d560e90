"""Start a server: open the models and logs, and print the address."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redraft.engines.base import SAMPLING_FIELDS, Engine
from redraft.engines.load import load_engine, references_of
from redraft.engines.pool import PASSING
from redraft.engines.retry import backoff
from redraft.errors import EngineError, EngineTimeout, RedraftError, ServerError, UsageError
from redraft.jobs.counting import begin_line
from redraft.jobs.machine import cache_folder
from redraft.options import Flags, MachineOptions, ServerOptions, option
from redraft.revision.options import check_engines
from redraft.revision.settings import Settings
from redraft.serve.app import make_app
from redraft.serve.completions import CompletionRequest
from redraft.serve.gate import Gate
from redraft.serve.keys import Keys
from redraft.serve.log import otlp_provider
from redraft.serve.models import Model, Models
from redraft.serve.page.mount import Store
from redraft.serve.reader import ServerLimits
from redraft.serve.requests import ChatRequest
from redraft.serve.responses import ResponseRequest
from redraft.serve.run import listen, run, until_signal

if TYPE_CHECKING:
    from redraft.serve.cluster.serving import Applications

_log = logging.getLogger("redraft.serve")

ModelSettings = tuple[str | None, str, Settings]
"""A model's name (None: taken from the reference), a suffix for the name, and the model's settings."""


@dataclass(frozen=True)
class Server:
    """A server to start."""

    models: Sequence[ModelSettings]
    tell: Callable[[str, str | None], None]
    host: str
    port: int
    keys: Keys | None  # the clients' keys; None for a server that only this machine can reach
    parallel: int
    queue: int
    max_seconds: float
    drain: float  # time limit, in seconds, for requests to finish when the server ends
    linger: float  # seconds after SIGTERM in which requests are still answered
    page: bool  # serve a web page too
    votes: Path
    log_json: bool
    otel: bool
    # By model name: the request fields beyond OpenAI's that the model's server accepts.
    passes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    strict_tools: bool = False  # a tool call that stays wrong is an error
    # By model name: `Model.withheld` and `Model.think_tags`.
    replies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def check(self, file: Path | None, *, files: bool) -> None:
        """Raise `RedraftError` for faults found before loading. With `files`, files of models must exist."""
        for name, _, settings in self.models:
            try:
                settings.check(files=files)
            except RedraftError as error:
                error.message = f"{file}: {name}: {error.message}" if file else error.message
                raise
        if self.page and not self.votes.parent.is_dir():
            message = f"{self.votes.parent} is not a folder, so votes cannot be stored in {self.votes}."
            raise UsageError(message, hint="Name another file: --votes FILE. Or serve no page: --no-page")

    def run(self, store: Store, nodes: Applications | None = None) -> None:
        """Serve until a signal. If given, `nodes` run the models instead of this machine."""
        with ExitStack() as exits, listen(self.host, self.port, self.keys) as sock:
            asyncio.run(self._serving(sock, exits, store if self.page else None, nodes))
        begin_line()
        self._say("stopped.")

    async def _serving(
        self, sock: socket.socket, exits: ExitStack, store: Store | None, nodes: Applications | None
    ) -> None:
        provider = None
        if self.otel:
            provider = otlp_provider()
            exits.callback(provider.shutdown)
        at_once = self.parallel * (nodes.replicas.most if nodes else 1)
        offered, gate = Models(self.passes), Gate(at_once, self.queue)
        limits = ServerLimits(seconds=self.max_seconds, strict_tools=self.strict_tools)
        app = make_app(offered, gate, limits, self.keys, store)
        async with AsyncExitStack() as stack:

            async def load() -> None:
                models = [(name, rest, replace(each, tell=self._say)) for name, rest, each in self.models]
                if nodes:
                    stack.push_async_callback(nodes.aclose)
                opens = nodes.open if nodes else load_engine
                names = [name or usual_name(each) or each.references()["model"] for name, _, each in models]
                self._say(f"opening {', '.join(dict.fromkeys(names))} …")
                await self._load(Opening(stack, models, self.parallel, provider, opens), offered, sock)

            with until_signal(gate) as told:
                await run(app, gate, sock, load, told, drain=self.drain, linger=self.linger)

    async def _load(self, opening: Opening, offered: Models, sock: socket.socket) -> None:
        found: dict[int, Model] = {}
        for tries in count(1):
            before, down = len(found), dict[int, EngineError]()
            for place, each in enumerate(opening.models):
                try:
                    more = self.replies.get(each[0] or "", {})
                    found[place] = found.get(place) or await opening.open(*each, **more)
                except (ServerError, EngineTimeout) as failed:
                    if getattr(failed, "status", None) not in PASSING:
                        raise
                    down[place] = failed
            if not found:
                raise next(iter(down.values()))
            usual = next(iter(found.values())).name
            asked = {place: opening.models[place] for place in down}
            names = [(name or usual_name(each) or usual) + rest for name, rest, each in asked.values()]
            offered.offer((found[place] for place in sorted(found)), names)
            if len(found) > before:
                self._announce(offered, names, sock)
            if before == 0:
                for name, error in zip(names, down.values(), strict=True):
                    self._say(f"{name} is not served yet; trying again: {error.message}")
            if not down:
                return
            await asyncio.sleep(backoff(tries, 1.0))

    def _announce(self, offered: Models, down: Sequence[str], sock: socket.socket) -> None:
        served = [model.name for model in offered.all()]
        address = f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{sock.getsockname()[1]}/"
        names = " and ".join(filter(None, [", ".join(served[:-1]), served[-1]]))
        self._say(f"serving {names} at {address}v1", f"The page: {address}" if self.page else None)
        for health in filter(attrgetter("trouble"), offered.watched().values()):
            _log.warning("a model may be unable to answer: %s", health.trouble)
        if self.keys:
            self.keys.expect((*served, *down))

    def _say(self, message: str, hint: str | None = None) -> None:
        if not self.log_json:
            self.tell(message, hint)
            return
        for line in filter(None, (message, hint)):
            _log.info(line)


@dataclass
class Opening:
    """Opens models. Models with the same reference and engine settings share an engine."""

    stack: AsyncExitStack
    models: Sequence[ModelSettings]
    parallel: int
    provider: Any = None
    opens: Callable[..., Awaitable[Engine]] = load_engine
    _engines: dict[tuple[Any, ...], Engine] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    async def open(self, name: str | None, behind: str, settings: Settings, **more: Any) -> Model:
        """Open a model. Its name is `name` or comes from the reference or engine, and ends with `behind`."""
        steered = any(each.get("steer") is not False for *_, each in self.models)
        because = "the checks of requests may steer it" if steered else ""
        options = settings.options()
        opened: dict[str, Any] = {"trace": self.provider, **dict.fromkeys(settings.stand_ins, ())}
        for role, reference in settings.references().items():
            machine = MachineOptions.model_fields if role == "model" else ()
            key = (reference, *map(settings.get, [*ServerOptions.model_fields, *machine]))
            if key not in self._engines:
                patience = settings.waiting()
                self._engines[key] = await replace(settings, llamacpp_because=because).load(
                    self.stack, role, reference, parallel=self.parallel, patience=patience, opens=self.opens
                )
            opened[role] = self._engines[key]
        options = options.model_copy(update=opened)
        check_engines(options)
        called = (name or usual_name(settings) or opened["model"].info.name) + behind
        if called in self._names:
            raise UsageError(f"two models are called {called}.", hint="Name them in a file: --models FILE")
        self._names.add(called)
        kept = cache_folder() / "promises"
        if settings.watch and (told := settings.watch.keep_in(kept, settings.get("check") or ())):
            settings.tell(told)
        return Model(called, options, watch=settings.watch, **more)


def usual_name(settings: Settings) -> str:
    """Return a model's name from its reference, or "" if the reference names only a server."""
    reference, *_ = references_of(settings.references()["model"])
    if "://" in reference:
        return reference.partition("#")[2]
    return Path(reference.removeprefix("script:")).name.removesuffix(".gguf").removesuffix(".jsonl")


class ModelKeys(Flags):
    """The keys that a model may have in the models' file."""

    server_fields: list[str] = option("fields of requests to pass to the model's server", default=[])
    withheld: str = option("the text that replaces an answer that fails its checks", default="")
    think_tags: bool = option("whether a chat's content begins with thoughts, in <think> tags", default=False)

    def of_replies(self, where: str, settings: Settings) -> dict[str, Any]:
        """Return `withheld` and `think_tags`. Raise `UsageError` if a key of the models' file is wrong."""
        own = {name for one in (ChatRequest, CompletionRequest, ResponseRequest) for name in one.model_fields}
        if wrong := sorted(own.intersection(self.server_fields) - SAMPLING_FIELDS):
            message = f"{where}server_fields has {wrong[0]!r}, which redraft does not pass on."
            raise UsageError(message, hint="Leave it out of the list.")
        if "withheld" in self.explicit and not self.withheld.strip():
            hint = 'Write a text, for example: withheld: "I cannot answer that."'
            raise UsageError(f"{where}withheld is {self.withheld!r:.80}, which is blank.", hint=hint)
        if self.withheld and not settings.get("check"):
            hint = "Add one: check: ['lacks[part]:secret']"
            raise UsageError(f"{where}the key withheld needs a check.", hint=hint)
        return {"withheld": self.withheld, "think_tags": self.think_tags}
