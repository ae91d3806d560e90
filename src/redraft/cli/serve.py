"""`redraft serve`: models behind an API like OpenAI's, with drafts and feedback as reasoning."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.options import fill_in, takes
from redraft.cli.shell import server_log, tell
from redraft.errors import UsageError, install
from redraft.options import (
    LOOP,
    Flags,
    MachineOptions,
    ServerOptions,
    check_file,
    options_of,
)

if TYPE_CHECKING:
    from socket import socket

    from opentelemetry.sdk.trace import TracerProvider

    from redraft.engines.base import Engine
    from redraft.revision.settings import Settings
    from redraft.serve.keys import Keys
    from redraft.serve.models import Model
    from redraft.serve.page.compare import Store
    from redraft.serve.request_log import RequestLog

Entries = list[tuple[str | None, str, "Settings"]]
"""A name, or None for that of the model's reference; what comes behind it; and the flags."""

_KEPT = ("system",)
"""Flags about revising that a model has even if it does not revise."""


def _page(text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Web page", **more)


def _log(text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Logs and traces", **more)


@dataclass(frozen=True)
class PageFlags:
    """What a user said of the web page."""

    page: Annotated[bool, _page("Serve a web page too, at /.", "--page/--no-page")] = True
    votes: Annotated[Path, _page("Where the votes of the page go.", metavar="FILE")] = Path("votes.jsonl")
    share: Annotated[bool, _page("Give the page a public address, by Gradio's tunnel.", "--share")] = False

    def store(self, keys: Keys | None) -> Store | None:
        """Return what stores votes; None if there is no page: Gradio is not installed, or it is not wanted.

        Raises:
            UsageError: Votes cannot be stored. Or the page is to be shared, and there is none or no login.
        """
        from redraft.evaluation.voting.compared import PageVotes
        from redraft.serve.page.share import check_share

        if self.page and not self.votes.parent.is_dir():
            raise UsageError(
                f"{self.votes.parent} is no folder, so votes cannot go to {self.votes.name} there.",
                hint="Name another file: --votes FILE. Or leave the page out: --no-page",
            )
        there = self.page and find_spec("gradio") is not None
        if self.share:
            check_share(page=there, keys=keys is not None)
        return PageVotes(self.votes).add if there else None

    def hint(self, address: str, store: Store | None) -> str | None:
        """Return where the page is, or how to get one."""
        if store is not None:
            return f"The page: {address.removesuffix('v1')}"
        return f"For a web page too: {install('web')}" if self.page else None


@dataclass(frozen=True)
class LogFlags:
    """What a user said of logs and traces."""

    request_log: Annotated[
        Path | None, _log("Add a row a request to this SQLite file.", metavar="FILE", show_default=False)
    ] = None
    log_text: Annotated[bool, _log("Keep chains there too, with prompts and answers.", "--log-text")] = False
    log_json: Annotated[bool, _log("Log objects of JSON, one a line.", "--log-json")] = False
    otel: Annotated[bool, _log("Report chains to OpenTelemetry.", "--otel")] = False

    def check(self) -> None:
        """Check that they go together."""
        if self.log_text and self.request_log is None:
            raise UsageError("--log-text says what a request log keeps.", hint="Add --request-log FILE.")

    def opened(self, exits: ExitStack) -> RequestLog | None:
        """Open the request log, if there is one. It is closed with `exits`."""
        from redraft.serve.request_log import RequestLog

        if self.request_log is None:
            return None
        log = RequestLog(self.request_log, with_text=self.log_text)
        exits.callback(log.close)
        return log

    def provider(self, exits: ExitStack) -> TracerProvider | None:
        """Return a provider that sends spans away, the last of them with `exits`."""
        from redraft.serve.log import otlp_provider

        if not self.otel:
            return None
        provider = otlp_provider()
        exits.callback(provider.shutdown)
        return provider

    def say(self, message: str, hint: str | None = None) -> None:
        """Say something to people, or write it into a log for programs."""
        if not self.log_json:
            tell(message, hint)
            return
        for line in filter(None, (message, hint)):
            logging.getLogger("redraft.serve").info(line)


@takes
def serve(
    flags: Flags,
    page: PageFlags,
    logs: LogFlags,
    models: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Names, each with the keys of a recipe.", show_default=False),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="Where to listen; 0 is any free one.")
    ] = 8321,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="API keys, one a line. Needed for other addresses.", show_default=False
        ),
    ] = None,
    parallel: Annotated[int, typer.Option(metavar="N", min=1, help="Chains at once, of each model.")] = 4,
    queue: Annotated[
        int, typer.Option(metavar="N", min=0, help="Requests that may wait, for each model.")
    ] = 64,
    max_seconds: Annotated[
        float, typer.Option(metavar="S", min=0.001, help="The longest that a chain may take.")
    ] = 600.0,
    drain: Annotated[
        float, typer.Option(metavar="S", min=0, help="Time for requests to finish at the end.")
    ] = 60.0,
) -> None:
    """Serve models with an API like OpenAI's.

    A model has two names: NAME gives one answer, and NAME-revise revises it as the flags say. Drafts and
    feedback are reasoning_content, the final answer is content.

    The server listens to this machine alone, unless there are keys. SIGTERM or Ctrl-C lets requests finish
    and ends it.
    """
    from redraft.revision.budget import Budget
    from redraft.serve.app import make_app
    from redraft.serve.bodies import Limits
    from redraft.serve.gate import Gate
    from redraft.serve.keys import Keys
    from redraft.serve.models import Models
    from redraft.serve.run import listen, run, until_signal

    entries = _of_file(models, flags) if models else _of_flags(fill_in(flags))
    for _, _, settings in entries:
        settings.options()
    Budget(seconds=max_seconds)
    logs.check()
    keys = None if api_key_file is None else Keys.read(api_key_file)
    store = page.store(keys)

    async def serving(sock: socket, exits: ExitStack) -> None:
        written, provider = logs.opened(exits), logs.provider(exits)
        offered, gate = Models(), Gate(parallel, queue)
        app = make_app(offered, gate, Limits(seconds=max_seconds), keys, written, store)
        async with AsyncExitStack() as stack:

            async def load() -> None:
                offered.offer(await _opened(stack, entries, parallel, provider))
                names, address = [model.name for model in offered.all()], _address(host, sock)
                if keys and any(key.usd_a_day for key in keys.all):
                    for name in (model.name for model in offered.all() if not model.priced):
                        logs.say(f"keys have usd-per-day, and {name} has no price: it counts as free.")
                for name in keys.lacking(names) if keys else ():
                    logs.say(f"a key of {api_key_file} is for {name!r:.80}, which is not served.")
                logs.say(f"serving {' and '.join(names)} at {address}", page.hint(address, store))
                if page.share:
                    logs.say(f"the page for everybody who has a key: {await _shared(sock)}")

            with until_signal(gate) as told:
                await run(app, gate, sock, load, told, drain=drain)

    with server_log(as_json=logs.log_json), ExitStack() as exits, listen(host, port, keys) as sock:
        asyncio.run(serving(sock, exits))


async def _shared(sock: socket) -> str:
    """Return the public address of the page."""
    from redraft.engines.threads import in_daemon_thread
    from redraft.serve.page.share import open_tunnel

    port: int = sock.getsockname()[1]
    return await in_daemon_thread(lambda: open_tunnel(port))


def _address(host: str, sock: socket) -> str:
    """Return the base address for clients."""
    return f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}/v1"


def _of_flags(settings: Settings) -> Entries:
    """Return a model that gives one answer, and one that revises it."""
    known = options_of(Flags)
    plain: Any = {
        name: value
        for name, value in settings.values.items()
        if name in _KEPT or (known[name].group != LOOP and name not in ("critic", "judge"))
    }
    plain["max_revisions"] = 0
    return [(None, "", replace(settings, values=plain)), (None, "-revise", settings)]


def _of_file(path: Path, flags: Flags) -> Entries:
    """Return the models of a file. Flags hold for those that do not say otherwise.

    Raises:
        UsageError: It cannot be read, or has something else. The message names the model.
    """
    from redraft.formats.documents import text_of_settings, yaml_of

    document = yaml_of(text_of_settings(path), path)
    if not isinstance(document, dict) or not document:
        raise UsageError(f"{path} has no models.", hint="A model reads: name: {model: default}")
    entries: Entries = []
    for name, keys in document.items():
        if not isinstance(name, str) or not isinstance(keys, dict):
            raise UsageError(
                f"{path}: {name!r:.80} is no name with keys.", hint="A model reads: name: {model: default}"
            )
        found: Any = check_file(keys, Flags, where=f"{path}: {name}: ")
        entries.append((name, "", fill_in({**flags, **found})))
    return entries


async def _opened(
    stack: AsyncExitStack, entries: Entries, parallel: int, provider: TracerProvider | None
) -> list[Model]:
    """Open the models, each engine once."""
    from redraft.revision.options import check_prices
    from redraft.serve.models import Model

    engines: dict[tuple[Any, ...], Engine] = {}
    models = []
    for name, behind, settings in entries:
        options = settings.options()
        options["trace"] = provider
        for role, reference in settings.references().items():
            how = [*options_of(ServerOptions), *(options_of(MachineOptions) if role == "model" else ())]
            key = (reference, *map(settings.get, how))
            if key not in engines:
                engines[key] = await settings.load(
                    stack, role, reference, parallel=parallel, patience=settings.waiting()
                )
            options[role] = engines[key]
        check_prices(options)
        models.append(Model((name or _name_of(settings, options["model"])) + behind, options))
    return models


def _name_of(settings: Settings, engine: Any) -> str:
    """Return the name of a model by its reference."""
    from redraft.engines.load import references_of

    reference, *_ = references_of(settings.references()["model"])
    if "://" in reference:
        return str(engine.info.name)
    base = Path(reference.removeprefix("script:")).name
    return base.removesuffix(".gguf").removesuffix(".jsonl")
