"""`redraft serve`: serve models with an API like OpenAI's, with drafts and feedback as reasoning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from redraft.cli.cluster import NodeFlags
from redraft.cli.options import Given, fill_in, takes
from redraft.cli.shell import flag, setting, switch, tell
from redraft.errors import UsageError, shown

if TYPE_CHECKING:
    from redraft.revision.settings import Settings
    from redraft.serve.start import ModelSettings


@dataclass(frozen=True)
class ServerFlags:
    """The options for a server's address, limits, page and logs."""

    host: Annotated[str, setting("ADDRESS", "The address to listen on.")] = "127.0.0.1"
    port: Annotated[int, setting("N", "The port; 0 is any free one.", min=0, max=65535)] = 8321
    api_key_file: Annotated[
        Path | None, flag("FILE", "A file of API keys, one per line. Needed to listen beyond this machine.")
    ] = None
    parallel: Annotated[int, setting("N", "Chains to run at once, per model.", min=1)] = 4
    queue: Annotated[int, setting("N", "Requests that may wait, per model.", min=0)] = 64
    max_seconds: Annotated[float, setting("S", "Time limit of a chain.", min=0.001)] = 600.0
    drain: Annotated[float, setting("S", "Time for requests to finish when the server ends.", min=0)] = 60.0
    linger: Annotated[float, setting("S", "Time to accept requests after SIGTERM.", min=0)] = 5.0
    strict_tools: Annotated[bool, switch("Fail if a tool call stays wrong.", "--strict-tools")] = False
    page: Annotated[bool, setting(None, "Serve a web page too, at /.", "--page/--no-page")] = True
    votes: Annotated[Path, setting("FILE", "Where the page's votes go.")] = Path("votes.jsonl")
    log_json: Annotated[bool, switch("Log JSON objects, one per line.", "--log-json")] = False
    otel: Annotated[bool, switch("Report chains to OpenTelemetry.", "--otel")] = False


@takes(repeated="model")
def serve(
    flags: Given,
    nodes: NodeFlags,
    models: Annotated[
        Path | None, flag("FILE", "A YAML file that maps names of models to recipe keys.")
    ] = None,
    *,
    how: ServerFlags,
) -> None:
    """Serve models with an API like OpenAI's.

    Each --model has two names: NAME gives one answer, and NAME-revise revises it as the flags say. Drafts and
    feedback are reasoning_content, and the final answer is content.

    Without keys, the server accepts connections only from this machine. After SIGTERM or Ctrl-C, the server
    finishes its requests and ends.
    """
    from redraft.evaluation.voting import PageVotes
    from redraft.revision.options import Budget
    from redraft.serve.keys import Keys
    from redraft.serve.log import server_log
    from redraft.serve.start import Server

    with server_log(as_json=how.log_json):
        Budget(seconds=how.max_seconds)
        given = [{**flags, "model": reference} for reference in flags.get("model") or [None]]
        if models and len(given) > 1:
            hint = f"Give one --model. The entries in {models} that name no model will use it."
            raise UsageError(f"with {models}, --model can be given only once.", hint=hint)
        of_flags = [] if models else [entry for each in given for entry in _of_flags(_filled(each))]
        entries, own = _of_file(models, given[0]) if models else (of_flags, {})
        settings = vars(how).copy()
        keys = None if (file := settings.pop("api_key_file")) is None else Keys.read(file)
        server = Server(entries, tell, keys=keys, **own, **settings)
        server.check(models, files=nodes.ray is None)
        kept = PageVotes(how.votes)
        with nodes.entered() as machines:
            server.run(lambda ballot: kept.add(**dict(ballot)), machines)


def _filled(given: Given) -> Settings:
    settings = fill_in(given)
    if settings.unwatched:
        settings.tell(f"{settings.recipe} promises a share of right answers, but no check tests the promise.")
    brought = {"checks": ["words<=9"]} if settings.watch and not settings.get("check") else {}
    return replace(settings, stand_ins=brought)


_A_MODEL = "Write a model like this: name: {model: default}"


def _of_flags(settings: Settings) -> list[ModelSettings]:
    from redraft.options import LOOP, Flags, options_of

    known = options_of(Flags)
    plain = {
        name: value
        for name, value in settings.values.explicit.items()
        if name in ("system", "steer") or (known[name].group != LOOP and name not in ("critic", "judge"))
    }
    once = Flags(**plain, max_revisions=0)
    return [(None, "", replace(settings, values=once, watch=None)), (None, "-revise", settings)]


def _of_file(path: Path, flags: Given) -> tuple[list[ModelSettings], dict[str, Any]]:
    from redraft.chain.documents import text_of_settings, yaml_of
    from redraft.serve.start import ModelKeys

    document = yaml_of(text_of_settings(path), path)
    if not isinstance(document, dict) or not document:
        fault = f"is {shown(document)}, but should map names to settings" if document else "has no models"
        raise UsageError(f"{path} {fault}.", hint=_A_MODEL)
    entries, passes, replies = list[Any](), {}, {}
    for name, keys in document.items():
        if not isinstance(name, str) or not isinstance(keys, dict):
            message = f"{path}: {name!r:.80} should be a model's name, followed by keys and values."
            raise UsageError(message, hint=_A_MODEL)
        where = f"{path}: {name}: "
        own = ModelKeys.read_file({key: keys[key] for key in keys if key != "about"}, where=where)
        more = ModelKeys.__annotations__
        settings = _filled({**flags, **{key: v for key, v in own.explicit.items() if key not in more}})
        entries.append((name, "", settings))
        passes[name], replies[name] = frozenset(own.server_fields), own.of_replies(where, settings)
    if flags.get("model") and all("model" in keys for keys in document.values()):
        hint = f"Leave out --model, or give the model an entry in {path}."
        raise UsageError(f"--model has no effect: each entry in {path} sets its own model.", hint=hint)
    return entries, {"passes": passes, "replies": replies}
