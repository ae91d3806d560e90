"""Send requests in batches, through `/files` and `/batches` of the OpenAI protocol.

    with Batches(Path("out.jsonl.batches.jsonl"), journal) as batches:
        engine = await RemoteEngine.connect(url, model, reach=batches.reach)

An engine uses `BatchServer` in place of `Server`, with the same JSON. Every reply is first stored in the
journal, even if no call waits for the reply. A resumed run finds the reply in the journal by the call's
`call_id`, which is the `custom_id` in the batch.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from redraft.engines.config import Key
from redraft.engines.remote.server import MISSING, Refusal, Server
from redraft.engines.remote.wire import Body, Complaint, read_chunk, read_complaint
from redraft.engines.retry import Patience, backoff
from redraft.errors import EngineError, OutputError, ServerError, UsageError
from redraft.jobs.journal import Journal, raw_key
from redraft.jobs.limits import STOPPED
from redraft.jobs.lines import LineFile, parse_line, read_lines

_log = logging.getLogger(__name__)

MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000
"""Limits of one input file (OpenAI's reference of `POST /batches`)."""

PAUSE = 60.0  # default for the longest pause between two polls of a batch, in seconds

_FIRST_PAUSE, _GROWTH = 2.0, 1.5
_MOMENT, _LULL = 0.3, 10.0
"""A batch is sent after this many seconds without a new request: `_MOMENT` if all chains wait for replies,
else `_LULL`. Other chains may be running checks, or using a model without batches."""

_MORE = 1.25
"""After a batch was too large, each accepted batch multiplies the limit of active requests by this factor."""

_AT_ONCE = 500  # lines of a result that are stored in one transaction

_TOO_MUCH = re.compile("limit|too_(many|large)")
"""Error codes of a batch that is too large, such as OpenAI's `token_limit_exceeded`."""


class _Fault(BaseModel):
    code: str | None = None
    line: int | None = None
    message: str = ""


class _Faults(BaseModel):
    data: list[_Fault] = []


class _File(BaseModel):
    id: str


class _Batch(_File):
    status: str
    input_file_id: str
    created_at: int
    output_file_id: str | None = None
    error_file_id: str | None = None
    request_counts: dict[str, int] = {}
    errors: _Faults | None = None


class _Page(BaseModel):
    data: list[_Batch]
    has_more: bool = False


M = TypeVar("M", bound=BaseModel)


class Batches(AbstractContextManager["Batches"]):
    """The batches of one run, at all servers. `pause` is the longest pause between two polls, in seconds.

    `limit` returns "", or the name of a reached limit, which ends the run with `EngineError`.
    """

    def __init__(
        self,
        file: Path,
        journal: Journal,
        *,
        pause: float = PAUSE,
        limit: Callable[[], str] = str,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.file, self.journal, self.pause = BatchFile(file), journal, pause
        self.limit, self._tell = limit, tell
        self.chains = self.waiting = 0
        self._shown: dict[str, str] = {}
        self._servers: dict[str, BatchServer] = {}

    def reach(self, url: str, key: Key | None, patience: Patience) -> BatchServer:
        """Return the `BatchServer` of an address, which all engines with this address share."""
        if url not in self._servers:
            self._servers[url] = BatchServer(url, key, patience, self)
        return self._servers[url]

    @contextmanager
    def chain(self) -> Iterator[None]:
        """Count a chain as active within the `with` block."""
        self.chains += 1
        try:
            yield
        finally:
            self.chains -= 1

    def line(self, sent: Sent, text: str) -> str:
        """Set a batch's progress text; "" removes the text. Return the progress line of all batches."""
        self._shown.pop(sent.file, None)
        if text:
            self._shown[sent.file] = f"batch {sent.number}: {text}"
        first, more = list(self._shown.values())[:2], len(self._shown) - 2
        return "; ".join([*first, *([f"and {more} more"] if more > 0 else [])])

    def __exit__(self, *_: object) -> None:
        left = self.file.pending()
        self.file.close()
        if left:
            names = ", ".join(sent.batch or sent.file for sent in left[:3]) + (", …" if left[3:] else "")
            self._tell(f"Paid batches are under way at the server: {names}. To resume, repeat the command.")


@dataclass
class _Request:
    path: str
    model: str
    line: bytes
    reply: asyncio.Future[Body | Refusal] = field(default_factory=asyncio.Future)
    listeners: int = 0
    tries: int = 0


class BatchServer(Server):
    """A server to which requests are sent in batches.

    Limits per minute do not apply. If a batch is too large for the server, it costs nothing, and the requests
    are sent again in smaller batches.
    """

    def __init__(self, url: str, key: Key | None, patience: Patience, batches: Batches) -> None:
        super().__init__(url, key, replace(patience, rpm=None, tpm=None))
        self._batches = batches
        self._requests: dict[str, _Request] = {}
        self._queue: dict[str, _Request] = {}
        self._sent: set[str] = set()
        self._most = inf  # maximum number of active requests
        self._sending: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """Stop waiting, and close the connections. Batches continue at the server."""
        if self._sending:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        await super().aclose()

    @asynccontextmanager
    async def asked(
        self, path: str, body: Body, headers: Mapping[str, str], call_id: str
    ) -> AsyncIterator[httpx.Response | Refusal]:
        """Send a request in the next batch, and yield the reply. Leaving the `with` block cancels nothing."""
        if headers:
            raise UsageError("a batch cannot send extra_headers.", hint="Leave them out.")
        if not call_id:
            raise UsageError("batches need a journal.", hint="Wrap the engine in a JournaledEngine.")
        if (stored := self._batches.journal.get(raw_key(call_id))) is not None:
            yield _response(stored)
            return
        if self._sending is None:
            earlier = self._batches.file.pending(self.url)
            self._sent.update(call_id for sent in earlier for call_id in sent.requests)
            self._sending = asyncio.create_task(self._send_all(earlier))
        found = await self._reply(path, body, call_id)
        yield found if isinstance(found, Refusal) else _response(found)

    async def _reply(self, path: str, body: Body, call_id: str) -> Body | Refusal:
        request = self._requests.get(call_id)
        if request is None:
            whole = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
            record = {"custom_id": call_id, "method": "POST", "url": f"/v1{path}", "body": whole}
            request = _Request(path, str(body.get("model")), json.dumps(record).encode() + b"\n")
            self._requests[call_id] = request
            if call_id not in self._sent:
                self._queue[call_id] = request
        request.listeners += 1
        self._batches.waiting += 1
        try:
            return await asyncio.shield(request.reply)
        finally:
            self._batches.waiting -= 1
            request.listeners -= 1
            if not request.listeners and self._requests.get(call_id) is request:
                del self._requests[call_id]
                self._queue.pop(call_id, None)

    async def _send_all(self, earlier: Sequence[Sent]) -> None:
        try:
            async with asyncio.TaskGroup() as following:
                for sent in earlier:
                    following.create_task(self._follow(sent))
                while True:
                    await self._filled()
                    following.create_task(self._follow(await self._send(self._wave())))
        except BaseExceptionGroup as several:
            self._sending = None
            waiting, self._requests, self._queue = self._requests, {}, {}
            self._sent.clear()
            for request in waiting.values():
                request.reply.set_exception(_of_run(several.exceptions[0]))

    async def _filled(self) -> None:
        quiet, size = 0.0, 0
        while True:
            await asyncio.sleep(_MOMENT)
            if reached := self._batches.limit():
                error = EngineError(f"{reached} in the middle of a batch.")
                error.exit_status = STOPPED
                raise error
            quiet = quiet + _MOMENT if size and len(self._queue) == size else 0.0
            size = len(self._queue)
            all_wait = self._batches.waiting >= self._batches.chains
            due = size >= MOST_REQUESTS or quiet >= _LULL or (quiet and all_wait)
            if due and self._room >= 1:
                return

    @property
    def _room(self) -> float:
        return min(MOST_REQUESTS, self._most - len(self._sent))

    def _wave(self) -> dict[str, _Request]:
        first, size = next(iter(self._queue.values())), 0
        wave: dict[str, _Request] = {}
        for call_id, request in self._queue.items():
            if (request.path, request.model) == (first.path, first.model):
                size += len(request.line)
                if wave and (len(wave) + 1 > self._room or size > MOST_BYTES):
                    break
                wave[call_id] = request
        for call_id in wave:
            del self._queue[call_id]
        return wave

    async def _send(self, wave: Mapping[str, _Request]) -> Sent:
        path = next(iter(wave.values())).path
        self._sent.update(wave)
        content = b"".join(request.line for request in wave.values())
        uploaded = await self._asked_for(_File, "POST", "/files", {"purpose": "batch"}, file=content)
        sent = self._batches.file.uploaded(uploaded.id, self.url, list(wave))
        return self._batches.file.created(sent, await self._created(sent, path))

    async def _created(self, sent: Sent, path: str) -> str:
        body = {"input_file_id": sent.file, "endpoint": f"/v1{path}", "completion_window": "24h"}
        failed: EngineError
        for attempt in range(1, self.patience.tries + 1):
            try:
                reply = await self.fetch("POST", f"{self.url}/batches", body, patient=False)
            except EngineError as error:
                failed = error
            else:
                if not isinstance(reply, Refusal):
                    return self._checked(_File, reply, "/batches").id
                failed = self._error_of(reply, "/batches")
                if not reply.may_pass:
                    self._batches.file.ended(sent, "refused")
                    raise failed
            await asyncio.sleep(backoff(attempt, self.patience.backoff))
            if found := await self._looked_up(sent):
                return found
        raise failed

    async def _looked_up(self, sent: Sent) -> str:
        after = ""
        while True:
            found = await self.fetch("GET", f"{self.url}/batches?limit=100{after}")
            if isinstance(found, Refusal):
                if found.status in MISSING:
                    return ""
                raise self._error_of(found, "/batches")
            page = self._checked(_Page, found, "/batches")
            for batch in page.data:
                if batch.input_file_id == sent.file:
                    return batch.id
            last = page.data[-1] if page.data else None
            if last is None or not page.has_more or last.created_at < sent.at - 3600:  # clocks may differ
                return ""
            after = f"&after={last.id}"

    async def _follow(self, sent: Sent) -> None:
        if not sent.batch:
            if not (found := await self._looked_up(sent)):
                self._end(sent, "not created")
                return
            sent = self._batches.file.created(sent, found)
        batch = await self._waited_for(sent)
        if batch.status == "failed":
            self._batches.file.ended(sent, "failed")
            self._send_less(sent, batch)
            return
        for file in filter(None, (batch.output_file_id, batch.error_file_id)):
            await self._collect(f"/files/{file}/content")
        self._most *= _MORE
        self._end(sent, batch.status)

    def _send_less(self, sent: Sent, batch: _Batch) -> None:
        errors = batch.errors.data if batch.errors else []
        most = len(self._sent.difference(sent.requests)) + len(sent.requests) // 2
        # An error with a line number is about that line, not about the size of the batch.
        too_large = any(_TOO_MUCH.search(each.code or "") and not each.line for each in errors)
        if not most or not too_large:
            hint = "Correct the settings that the server names. A refused batch costs nothing."
            if too_large:
                hint = "Other batches of the account may have filled the queue. Wait until they are done."
            raise EngineError(f"{self.host} refuses {sent.batch}: {self._words(errors)}", hint=hint)
        self._most = min(self._most, most)
        words = "%s refuses %s: %s Sending at most %d requests at a time."
        _log.warning(words, self.host, sent.batch, self._words(errors), most)
        self._sent.difference_update(sent.requests)
        self._queue |= {each: self._requests[each] for each in sent.requests if each in self._requests}
        self.patience.tell(self._batches.line(sent, ""))

    async def _waited_for(self, sent: Sent) -> _Batch:
        pause = min(_FIRST_PAUSE, self._batches.pause)
        said = ""
        while True:
            batch = await self._asked_for(_Batch, "GET", f"/batches/{sent.batch}")
            done = sum(batch.request_counts.get(name, 0) for name in ("completed", "failed"))
            text = f"{done:,} of {len(sent.requests):,} done, {sent.batch} {batch.status}"
            if text != said:
                said = text
                self.patience.tell(self._batches.line(sent, text))
            if batch.status in ("completed", "failed", "expired", "cancelled"):
                return batch
            await asyncio.sleep(pause)
            pause = min(pause * _GROWTH, self._batches.pause)

    async def _collect(self, path: str) -> None:
        for tries_left in reversed(range(self.patience.tries)):
            lines: list[Any] = []
            try:
                async for line in self.lines(path):
                    lines.append(line)
                    if len(lines) == _AT_ONCE:
                        self._store(lines)
                        lines = []
                break
            except ServerError as error:
                error.hint = f"The replies received so far are stored. Try again later. {self._forget}"
                if not (tries_left and error.passing):
                    raise
            finally:
                self._store(lines)

    def _store(self, lines: Iterable[Any]) -> None:
        found = {
            line["custom_id"]: _result(line)
            for line in lines
            if isinstance(line, dict) and str(line.get("custom_id")) in self._sent
        }
        self._batches.journal.put({raw_key(id_): body for id_, body in found.items() if _is_final(body)})
        for call_id, body in found.items():
            self._give(call_id, body)

    def _give(self, call_id: str, found: Body | Refusal) -> None:
        self._sent.discard(call_id)
        request = self._requests.get(call_id)
        if request is None:
            return
        request.tries += 1
        passing = isinstance(found, Refusal) and (found.may_pass or not found.status)
        if passing and request.tries < self.patience.tries:
            self._queue[call_id] = request
            return
        del self._requests[call_id]
        if isinstance(found, Refusal) and not found.status:
            message = f"{self.host} gave no reply in {request.tries} batch{'es' * (request.tries > 1)}"
            error = ServerError(
                f"{message}: {self.clean(found.complaint.message)}",
                hint="Send fewer requests at once: --parallel N. Or leave out --batch.",
            )
            request.reply.set_exception(error)
        elif isinstance(found, Refusal):
            request.reply.set_result(replace(found, tries=request.tries))
        else:
            request.reply.set_result(found)

    def _end(self, sent: Sent, how: str) -> None:
        self._batches.file.ended(sent, how)
        for call_id in sent.requests:
            if call_id in self._sent:
                self._give(call_id, Refusal(0, Complaint(f"{sent.batch} is {how}")))
        self.patience.tell(self._batches.line(sent, ""))

    async def _asked_for(
        self, kind: type[M], method: str, path: str, body: Body | None = None, file: bytes = b""
    ) -> M:
        found = await self.fetch(method, self.url + path, body, file=file)
        if isinstance(found, Refusal):
            raise self._error_of(found, path)
        self.retry.served()
        return self._checked(kind, found, path)

    def _checked(self, kind: type[M], found: Any, path: str) -> M:
        try:
            return kind.model_validate(found)
        except ValidationError as error:
            wrong = ".".join(map(str, error.errors(include_url=False)[0]["loc"])) or "object"
            answered = f"{self.host} answered {path} with JSON whose {wrong!r} is missing or wrong"
            raise ServerError(f"{answered}: {self.clean(str(found))[:80]}") from None

    def _error_of(self, refusal: Refusal, path: str) -> EngineError:
        reason = self.clean(refusal.complaint.message)
        if refusal.status in MISSING and path in ("/files", "/batches"):
            return ServerError(
                f"{self.url} does not support batches: {path} does not exist ({refusal.status}): {reason}",
                hint="Leave out --batch: requests are then sent one by one.",
                status=refusal.status,
            )
        if refusal.status == 404:
            hint = f"Use the API key of the earlier run. {self._forget}"
            return EngineError(f"{self.host} does not know {path} (404): {reason}", hint=hint)
        return self.error(refusal, path)

    @property
    def _forget(self) -> str:
        return (
            f"If the server has lost the batch, remove the batch's lines from {self._batches.file.path}. "
            "The requests are then sent and paid for a second time."
        )

    def _words(self, errors: Sequence[_Fault]) -> str:
        said = [f"line {each.line}: {each.message}" if each.line else each.message for each in errors]
        more = f"; and {len(said) - 3} more" if said[3:] else ""
        return self.clean("; ".join(said[:3]) + more).rstrip(".") + "." if said else "it does not say why."


def _of_run(error: BaseException) -> BaseException:
    """Copy an error that ends the run, because `error.chain` differs for each prompt."""
    if not isinstance(error, EngineError):
        return copy.copy(error)
    found = EngineError(error.message, hint=error.hint)
    found.exit_status = error.exit_status
    return found


def _response(body: Body) -> httpx.Response:
    kind, asked_at = {"Content-Type": "application/json"}, asyncio.get_running_loop().time()
    content, more = json.dumps(body).encode(), {"asked_at": asked_at}
    return httpx.Response(200, content=content, headers=kind, extensions=more)


def _result(line: Body) -> Body | Refusal:
    response = line.get("response")
    found = response if isinstance(response, dict) else {"status_code": 0}
    status, body = found.get("status_code"), found.get("body")
    if not isinstance(status, int) or 200 <= status < 300:
        if isinstance(body, dict):
            return body
        status = 0
    complaint = read_complaint(body) or read_complaint({"error": line.get("error")})
    return Refusal(status, complaint or Complaint(str(body)))


def _is_final(body: Body | Refusal) -> bool:
    if isinstance(body, Refusal):
        return False
    with suppress(ValueError):
        chunk = read_chunk(body)
        return bool(chunk.text.strip() or chunk.calls) and chunk.finish not in (None, "error")
    return False


@dataclass(frozen=True)
class Sent:
    """A batch that was sent, with its requests."""

    file: str  # the id of its input file at the server
    server: str
    at: int  # the time of the upload, in Unix seconds
    requests: Sequence[str]
    number: int  # the batch's number, from 1
    batch: str = ""  # the batch's id; empty if the process died before the server sent the id


class BatchFile:
    """The file `OUT.batches.jsonl`, which records the batches of a run for resumed runs.

    Three lines record a batch. The first line is written before the server is asked to create the batch, so
    that no request is sent twice.

        {"file": "file-1", "server": "https://…/v1", "at": 1700000000, "requests": ["ab12…", …]}
        {"file": "file-1", "batch": "batch_1"}
        {"file": "file-1", "ended": "completed"}

    The last line is written when all replies are in the journal.

    Raises:
        OutputError: The file cannot be written, or a line is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count = 0
        self._pending: dict[str, Sent] = {}
        self._lines = LineFile(path, made_up=True)  # the output's lock covers this file
        try:
            self._lines.cut(self._read())
        except BaseException:
            self._lines.close()
            raise

    def pending(self, server: str | None = None) -> list[Sent]:
        """Return the batches at a server (None: at all servers) whose replies are not all in the journal."""
        return [sent for sent in self._pending.values() if server in (None, sent.server)]

    def uploaded(self, file: str, server: str, requests: Sequence[str]) -> Sent:
        """Record that a batch is about to be created. Raise `OutputError` if the record cannot be written."""
        self._append({"file": file, "server": server, "at": int(time.time()), "requests": list(requests)})
        return self._pending[file]

    def created(self, sent: Sent, batch: str) -> Sent:
        """Record the id of a batch. Raise `OutputError` if the record cannot be written."""
        self._append({"file": sent.file, "batch": batch})
        return self._pending[sent.file]

    def ended(self, sent: Sent, how: str) -> None:
        """Record how a batch ended. Raise `OutputError` if the record cannot be written."""
        self._append({"file": sent.file, "ended": how})

    def close(self) -> None:
        """Sync and close the file. Remove an empty file."""
        self._lines.close()
        if not self._lines.size:
            self.path.unlink(missing_ok=True)

    def _append(self, record: dict[str, Any]) -> None:
        self._lines.append(json.dumps(record))
        self._lines.sync()
        self._note(record)

    def _read(self) -> int:
        length = 0
        for number, line in enumerate(read_lines(self.path), start=1):
            record = parse_line(line)
            if record is None and not line.endswith(b"\n"):
                break
            try:
                self._note(record or {})
            except (KeyError, TypeError):
                message = f"{self.path} should list batches, but its line {number} is something else."
                hint = "Move the file away. Unfinished batches are then sent and paid for a second time."
                raise OutputError(message, hint=hint) from None
            length += len(line)
        return length

    def _note(self, record: dict[str, Any]) -> None:
        file = record["file"]
        if "ended" in record:
            del self._pending[file]
        elif "batch" in record:
            self._pending[file] = replace(self._pending[file], batch=str(record["batch"]))
        else:
            self._count += 1
            requests = [str(each) for each in record["requests"]]
            self._pending[file] = Sent(file, record["server"], record["at"], requests, self._count)
