"""`redraft serve`: models behind an API like OpenAI's, with drafts and feedback as reasoning."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.options import FlagValues, fill_in, takes
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
    from redraft.serve.models import Model
    from redraft.serve.page.compare import Store
    from redraft.serve.request_log import RequestLog

Entries = list[tuple[str | None, str, FlagValues]]
"""A name, or None for that of the model's reference; what comes behind it; and the flags."""

_KEPT = ("system",)
"""Flags about revising that a model has even if it does not revise."""


@takes
def serve(
    flags: Flags,
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
    parallel: Annotated[int, typer.Option(metavar="N", min=1, help="Chains at once.")] = 4,
    queue: Annotated[int, typer.Option(metavar="N", min=0, help="Requests that may wait.")] = 64,
    max_seconds: Annotated[
        float, typer.Option(metavar="S", min=0.001, help="The longest that a chain may take.")
    ] = 600.0,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Serve a web page too, at /.")] = True,
    votes: Annotated[Path, typer.Option(metavar="FILE", help="Where the votes of the page go.")] = Path(
        "votes.jsonl"
    ),
    share: Annotated[
        bool, typer.Option("--share", help="Give the page a public address, by Gradio's tunnel.")
    ] = False,
    drain: Annotated[
        float, typer.Option(metavar="S", min=0, help="Time for requests to finish at the end.")
    ] = 60.0,
    request_log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Add a row a request to this SQLite file.", show_default=False),
    ] = None,
    log_text: Annotated[
        bool, typer.Option("--log-text", help="Keep chains there too, with prompts and answers.")
    ] = False,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log objects of JSON, one a line.")] = False,
    otel: Annotated[bool, typer.Option("--otel", help="Report chains to OpenTelemetry.")] = False,
) -> None:
    """Serve models with an API like OpenAI's.

    A model has two names: NAME gives one answer, and NAME-revise revises it as the flags say. Drafts and
    feedback are reasoning_content, the final answer is content.

    The server listens to this machine alone, unless there are keys. SIGTERM or Ctrl-C lets requests finish
    and ends it.
    """
    from redraft.revision.budget import Budget
    from redraft.serve.app import make_app
    from redraft.serve.gate import Gate
    from redraft.serve.keys import Keys
    from redraft.serve.limits import Limits
    from redraft.serve.models import Models
    from redraft.serve.page.share import check_share
    from redraft.serve.run import listen, run, until_signal

    entries = _of_file(models, flags) if models else _of_flags(fill_in(flags))
    for _, _, settings in entries:
        settings.options()
    Budget(seconds=max_seconds)
    keys = None if api_key_file is None else Keys.read(api_key_file)
    if log_text and request_log is None:
        raise UsageError("--log-text says what a request log keeps.", hint="Add --request-log FILE.")
    store = _page_votes(votes) if page else None
    if share:
        check_share(page=store is not None, keys=keys is not None)

    async def serving(sock: socket, exits: ExitStack) -> None:
        written = _log_at(request_log, log_text, exits)
        provider = _provider(exits) if otel else None
        offered, gate = Models(), Gate(parallel, queue)
        app = make_app(offered, gate, Limits(seconds=max_seconds), keys, written, store)
        async with AsyncExitStack() as stack:

            async def load() -> None:
                offered.offer(await _opened(stack, entries, parallel, provider))
                names = [model.name for model in offered.all()]
                hint = _page_hint(host, sock, store, wanted=page)
                say(f"serving {' and '.join(names)} at {_address(host, sock)}", hint)
                for name in keys.lacking(names) if keys else ():
                    say(f"a key of {api_key_file} is for {name!r:.80}, which is not served.")
                if share:
                    await _share(sock)

            with until_signal(gate) as told:
                await run(app, gate, sock, load, told, drain=drain)

    say = _say_as_json if log_json else tell
    with server_log(as_json=log_json), ExitStack() as exits, listen(host, port, keys) as sock:
        asyncio.run(serving(sock, exits))


def _say_as_json(message: str, hint: str | None = None) -> None:
    logging.getLogger("redraft.serve").info(". ".join(filter(None, (message, hint))))


def _log_at(path: Path | None, with_text: bool, exits: ExitStack) -> RequestLog | None:
    """Open the request log, if there is one. It is closed with `exits`."""
    from redraft.serve.request_log import RequestLog

    if path is None:
        return None
    log = RequestLog(path, with_text=with_text)
    exits.callback(log.close)
    return log


def _provider(exits: ExitStack) -> TracerProvider:
    """Return a provider that sends spans away, the last of them with `exits`."""
    from redraft.serve.tracing import otlp_provider

    provider = otlp_provider()
    exits.callback(provider.shutdown)
    return provider


def _page_votes(path: Path) -> Store | None:
    """Return what stores the page's votes; None if there is no page, because Gradio is not installed."""
    from importlib.util import find_spec

    from redraft.evaluation.voting.compared import PageVotes

    return None if find_spec("gradio") is None else PageVotes(path).add


def _page_hint(host: str, sock: socket, store: Store | None, *, wanted: bool) -> str | None:
    """Return where the page is, or how to get one."""
    if store is not None:
        return f"The page: {_address(host, sock).removesuffix('v1')}"
    return f"For a web page too: {install('web')}" if wanted else None


async def _share(sock: socket) -> None:
    from redraft.engines.threads import in_daemon_thread
    from redraft.serve.page.share import open_tunnel

    port: int = sock.getsockname()[1]
    tell(f"the page for everybody who has a key: {await in_daemon_thread(lambda: open_tunnel(port))}")


def _address(host: str, sock: socket) -> str:
    """Return the base address for clients."""
    return f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}/v1"


def _of_flags(settings: FlagValues) -> Entries:
    """Return a model that gives one answer, and one that revises it."""
    known = options_of(Flags)
    plain: Any = {
        name: value
        for name, value in settings.values.items()
        if name in _KEPT or (known[name].group != LOOP and name not in ("critic", "judge"))
    }
    plain["max_revisions"] = 0
    return [(None, "", FlagValues(plain)), (None, "-revise", settings)]


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


def _name_of(settings: FlagValues, engine: Any) -> str:
    """Return the name of a model by its reference."""
    from redraft.engines.load import references_of

    reference, *_ = references_of(settings.references()["model"])
    if "://" in reference:
        return str(engine.info.name)
    base = Path(reference.removeprefix("script:")).name
    return base.removesuffix(".gguf").removesuffix(".jsonl")
