"""Start a server: open its models and logs, and say where it is."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from redraft.engines.base import Engine
from redraft.engines.load import load_engine, references_of
from redraft.errors import UsageError
from redraft.options import MachineOptions, ServerOptions
from redraft.revision.options import check_prices
from redraft.revision.settings import Settings
from redraft.serve.app import make_app
from redraft.serve.gate import Gate
from redraft.serve.keys import Keys
from redraft.serve.log import otlp_provider
from redraft.serve.models import Model, Models
from redraft.serve.page.mount import Store
from redraft.serve.reader import Limits
from redraft.serve.run import listen, run, until_signal

_log = logging.getLogger("redraft.serve")

ModelSettings = tuple[str | None, str, Settings]
"""A model's name, or None for that of its reference; what comes behind it; and its settings."""


class Nodes(Protocol):
    """Other machines, that run models."""

    @property
    def most(self) -> int:
        """How many replicas of a model there may be."""
        ...

    async def open(self, reference: str, **how: Any) -> Engine:
        """Open an engine as `load_engine` does."""
        ...

    async def aclose(self) -> None:
        """End what was opened."""
        ...


@dataclass(frozen=True)
class Server:
    """A server to start."""

    models: Sequence[ModelSettings]
    tell: Callable[[str, str | None], None]
    host: str
    port: int
    keys: Keys | None  # those that clients may use; None for a server of this machine alone
    parallel: int
    queue: int
    max_seconds: float
    drain: float  # seconds for requests to finish at the end
    page: bool  # serve a web page too
    votes: Path
    log_json: bool
    otel: bool

    def check(self) -> None:
        """Check what can be checked before a model is loaded."""
        for _, _, settings in self.models:
            settings.options()
        if self.page and not self.votes.parent.is_dir():
            raise UsageError(
                f"{self.votes.parent} is no folder, so votes cannot go to {self.votes.name} there.",
                hint="Name another file: --votes FILE. Or leave the page out: --no-page",
            )

    def run(self, store: Store, nodes: Nodes | None = None) -> None:
        """Serve until a signal. `nodes` run the models, instead of this machine."""
        with ExitStack() as exits, listen(self.host, self.port, self.keys) as sock:
            asyncio.run(self._serving(sock, exits, store if self.page else None, nodes))

    async def _serving(
        self, sock: socket.socket, exits: ExitStack, store: Store | None, nodes: Nodes | None
    ) -> None:
        provider = None
        if self.otel:
            provider = otlp_provider()
            exits.callback(provider.shutdown)
        at_once = self.parallel * (nodes.most if nodes else 1)
        offered, gate = Models(), Gate(at_once, self.queue)
        app = make_app(offered, gate, Limits(seconds=self.max_seconds), self.keys, store)
        async with AsyncExitStack() as stack:

            async def load() -> None:
                models = [(name, rest, replace(each, tell=self._say)) for name, rest, each in self.models]
                if nodes:
                    stack.push_async_callback(nodes.aclose)
                opens = nodes.open if nodes else load_engine
                offered.offer(await opened(stack, models, self.parallel, provider, opens))
                await self._announce(offered, sock)

            with until_signal(gate) as told:
                await run(app, gate, sock, load, told, drain=self.drain)

    async def _announce(self, offered: Models, sock: socket.socket) -> None:
        names, port = [model.name for model in offered.all()], sock.getsockname()[1]
        if keys := self.keys:
            for name in keys.lacking(names):
                self._say(f"a key of {keys.path} is for {name!r:.80}, which is not served.")
        address = f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{port}/"
        hint = f"The page: {address}" if self.page else None
        self._say(f"serving {' and '.join(names)} at {address}v1", hint)

    def _say(self, message: str, hint: str | None = None) -> None:
        if not self.log_json:
            self.tell(message, hint)
            return
        for line in filter(None, (message, hint)):
            _log.info(line)


async def opened(
    stack: AsyncExitStack,
    models: Sequence[ModelSettings],
    parallel: int,
    provider: Any = None,
    opens: Callable[..., Awaitable[Engine]] = load_engine,
) -> list[Model]:
    """Open models, each engine once. Requests may bring checks, and llama.cpp lets them steer."""
    steered = any(settings.get("steer") is not False for *_, settings in models)
    because = "checks of requests steer it, unless --no-steer" if steered else ""
    engines: dict[tuple[Any, ...], Engine] = {}
    found = []
    for name, behind, settings in models:
        options = settings.options()
        opened: dict[str, Any] = {"trace": provider}
        for role, reference in settings.references().items():
            machine = MachineOptions.model_fields if role == "model" else ()
            how = [*ServerOptions.model_fields, *machine]
            key = (reference, *map(settings.get, how))
            if key not in engines:
                engines[key] = await replace(settings, llamacpp_because=because).load(
                    stack, role, reference, parallel=parallel, patience=settings.waiting(), opens=opens
                )
            opened[role] = engines[key]
        options = options.model_copy(update=opened)
        check_prices(options)
        reference, *_ = references_of(settings.references()["model"])
        usual = Path(reference.removeprefix("script:")).name.removesuffix(".gguf").removesuffix(".jsonl")
        if "://" in reference:
            usual = opened["model"].info.name
        found.append(Model((name or usual) + behind, options))
    return found
