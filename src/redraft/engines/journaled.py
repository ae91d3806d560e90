"""An engine whose replies are stored on disk: equal work is replayed without paying again.

The key of a reply holds everything that determines it, and how often this engine was asked the very same
thing before (a second sample is another reply). A job's journal has its item's id as the scope. A cache has
no scope: equal requests get equal replies, whoever asks. Replies that the caller closes early are not stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import asdict, fields, replace
from typing import Any

from pydantic import TypeAdapter

from redraft.engines.base import Delta, Engine, Replies
from redraft.engines.load import kind_of, parse_reference, references_of
from redraft.engines.wrapped import Ask, WrappedEngine
from redraft.errors import EngineError
from redraft.jobs.journal import Journal, key_of


class JournaledEngine(WrappedEngine):
    """Take replies from a journal if they are in it. Closing it closes neither the engine nor the journal.

    `identity` has JSON values that tell this model from every other, and `used` is the number of replies that
    a resumed chain has already: it gets none of them again.
    """

    def __init__(
        self, engine: Engine, journal: Journal, *, identity: Any, scope: str = "", used: int = 0
    ) -> None:
        super().__init__(engine)
        self._journal, self._used = journal, used
        self._about = {"identity": identity, "model": engine.info.name, "scope": scope}
        told = {"dtype": engine.info.dtype, "template": engine.info.template}
        self._about |= {name: value for name, value in told.items() if value}
        self._asked: Counter[str] = Counter()

    def _reply(self, request: dict[str, Any], ask: Ask) -> Replies:
        # The number is taken now, because it counts the calls in the order in which they are made.
        equal = self._key(request)
        number = self._asked[equal]
        self._asked[equal] += 1
        key = key_of([equal, self._used + number])

        def failed() -> None:  # the next equal call stands in for it
            if self._asked[equal] == number + 1:
                self._asked[equal] = number

        return self._deltas(key, lambda: ask(replace(request["sampling"], call_id=key)), failed)

    def _key(self, request: dict[str, Any]) -> str:
        sampling = asdict(request["sampling"])
        del sampling["extra_headers"], sampling["call_id"], sampling["chain"]
        del sampling["unset"], sampling["prediction"]  # the last one changes the speed alone
        if self.info.own_sampling:
            for name in request["sampling"].left_out - {"top_p"}:
                del sampling[name]
        for name in ("schema", "form", "tools", "extra_body", "logprobs", "top_logprobs", "role"):
            if not sampling[name]:
                del sampling[name]
        if form := sampling.get("form"):
            form["without"] = sorted(form["without"])  # a set, which JSON lacks
        return key_of({**self._about, **request, "sampling": sampling})

    async def _deltas(self, key: str, ask: Callable[[], Replies], failed: Callable[[], None]) -> Replies:
        stored = self._journal.get(key)
        if stored is not None:
            self._journal.replayed += 1
            try:
                found = _DELTAS.validate_python(stored)
                whole = found and found[-1].finish and not any(each.keys() - _FIELDS for each in stored)
            except ValueError:
                whole = None
            if not whole:
                raise self._journal.unusable("a reply in it is damaged, or of another redraft")
            for delta in found:
                yield delta
            return
        deltas: list[Delta] = []
        try:
            async with aclosing(ask()) as stream:
                async for delta in stream:
                    deltas.append(delta)
                    # Asking again may give more than a reply that was cut, or has no text.
                    if delta.finish not in (None, "context", "filtered") and any(
                        each.text.strip() or each.tool_calls for each in deltas
                    ):
                        await self._journal.store(key, [_without_defaults(each) for each in deltas])
                    yield delta
        except EngineError:
            failed()
            raise


_DELTAS = TypeAdapter(tuple[Delta, ...])
_FIELDS = {field.name for field in fields(Delta)}


def _without_defaults(delta: Delta) -> dict[str, Any]:
    # A count of 0 is no default. This runs for each token.
    found = vars(delta).items()
    return {name: value for name, value in found if value or (value == 0 and value is not False)}


def identity_of(reference: str) -> Any:
    """Return JSON values that tell the model of a reference from every other: server, files, adapters.

    Files are told apart by path, size and time of change. Call it when the model is loaded: a model that was
    fetched is a file then.
    """
    if len(parts := references_of(reference)) > 1:
        # Which of several servers has the model does not matter.
        models = [identity_of(part) for part in parts]
        found = [{"servers": "several", "model": m["model"]} if "server" in m else m for m in models]
        return found[0] if all(each == found[0] for each in found) else found
    named = parse_reference(reference)
    return kind_of(named).identity(named)
