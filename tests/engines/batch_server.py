"""A server with batches on 127.0.0.1, which is strict: what OpenAI refuses, it refuses too.

    with BatchServer(says=lambda body: "A gull.") as server:
        ...
        assert server.paid == {…}

Each look at a batch moves it on by one state. `held` keeps batches from this one on, counted from 1, in
progress; a `swift` server finishes all at the first look. `faults` change what becomes of a batch, the
first for the first, and so on. A server that is `down` fails each look. `queue` is the most requests that may
be under way: a batch that comes to more fails, as with OpenAI's limit of enqueued tokens. Live requests are
answered too.
"""

from __future__ import annotations

import email
import itertools
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.engines.fake_server import FakeServer, Reply, Request, json_reply

Body = dict[str, Any]
MODEL = "gull"

UNDER_WAY = ("in_progress", "finalizing", "cancelling")
FULL = (
    "Enqueued token limit reached for gull in organization org-1. Limit: 2,000,000 enqueued tokens. Please "
    "try again once some in_progress batches have been completed."
)
"""OpenAI's words (openai-python, issue 2084)."""


@dataclass
class Fault:
    """How a batch ends."""

    ends: str = "completed"  # its last status
    answered: int | None = None  # the number of answered lines, if not all
    refused: Callable[[Body], tuple[int, str] | None] = lambda _: None  # a request's status and error
    reason: list[Body] = field(default_factory=list)  # `errors.data` of a batch that failed
    lost: bool = False  # the batch is created, but the connection breaks before the reply


@dataclass
class Batch:
    record: Body
    lines: list[Body]
    fault: Fault


class BatchServer(FakeServer):
    """`paid` counts the answers in batches by `custom_id`. `live` has the bodies of single requests."""

    def __init__(
        self,
        says: Callable[[Body], str | Body] = lambda _: "A gull.",
        *faults: Fault,
        most: int = 50_000,
        swift: bool = False,
    ) -> None:
        super().__init__()
        self.says, self.faults, self.most = says, list(faults), most
        self.held, self.swift, self.down, self.queue = 0, swift, False, 0
        self.batches: dict[str, Batch] = {}
        self.paid: Counter[str] = Counter()
        self.live: list[Body] = []
        self.uploads: dict[str, list[Body]] = {}
        self.files: dict[str, bytes] = {}
        self.looks = 0
        self._ids = itertools.count(1)

    @property
    def model(self) -> str:
        return f"{self.url}#{MODEL}"

    @property
    def waves(self) -> list[int]:
        return [len(batch.lines) for batch in self.batches.values()]

    def _next(self, request: Request) -> Reply:
        path = request.path.partition("?")[0]
        if f"{request.method} {path}" in self._replies:
            return super()._next(request)
        routes: list[tuple[str, Callable[..., Reply]]] = [
            ("GET /v1/models", lambda: json_reply({"object": "list", "data": [{"id": MODEL}]})),
            ("POST /v1/chat/completions", lambda: self._live(request.json)),
            ("POST /v1/files", lambda: self._upload(request)),
            ("GET /v1/files/([^/]+)/content", self._content),
            ("POST /v1/batches", lambda: self._create(request.json)),
            ("GET /v1/batches", lambda: self._list(request)),
            ("GET /v1/batches/([^/]+)", self._look),
            ("POST /v1/batches/([^/]+)/cancel", self.cancel),
        ]
        for route, does in routes:
            if found := re.fullmatch(route, f"{request.method} {path}"):
                return does(*found.groups())
        return json_reply({"error": {"message": f"Invalid URL ({request.method} {path})"}}, 404)

    def _live(self, body: Body) -> Reply:
        self.live.append(body)
        return json_reply(self._completion(body))

    def _completion(self, body: Body) -> Body:
        said = self.says(body)
        choice = {"message": {"role": "assistant", "content": said}} if isinstance(said, str) else said
        usage = {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17}
        usage |= {"prompt_tokens_details": {"cached_tokens": 0}}
        return {
            "id": f"chatcmpl-{next(self._ids)}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", **choice}],
            "usage": usage,
        }

    def _upload(self, request: Request) -> Reply:
        head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
        parts: dict[str, Any] = {}
        for part in email.message_from_bytes(head + request.body).get_payload():
            assert not isinstance(part, str)
            parts[str(part.get_param("name", header="content-disposition"))] = part
        if parts["purpose"].get_payload().strip() != "batch":
            return _bad("'purpose' has to be 'batch'")
        if not str(parts["file"].get_filename()).endswith(".jsonl"):
            return _bad("Invalid file format for Batch API. Must be .jsonl")
        content = parts["file"].get_payload(decode=True)
        name = f"file-{next(self._ids)}"
        self.files[name] = content
        self.uploads[name] = [json.loads(line) for line in content.split(b"\n") if line]
        record = {
            "object": "file", "bytes": len(content), "created_at": int(time.time()), "status": "processed",
        }  # fmt: skip
        return json_reply({"id": name, "filename": "requests.jsonl", "purpose": "batch", **record})

    def _content(self, name: str) -> Reply:
        if name not in self.files:
            return json_reply({"error": {"message": f"No such File object: {name}"}}, 404)
        return Reply(200, {"Content-Type": "application/octet-stream"}, [self.files[name]])

    def _create(self, body: Body) -> Reply:
        if body.get("completion_window") != "24h":
            return _bad("Invalid value for 'completion_window': only '24h' is supported.")
        if body.get("endpoint") not in ("/v1/chat/completions", "/v1/completions"):
            return _bad(f"Invalid value for 'endpoint': {body.get('endpoint')}")
        if body.keys() - {
            "completion_window",
            "endpoint",
            "input_file_id",
            "metadata",
            "output_expires_after",
        }:
            return _bad(f"Unknown parameter: {sorted(body)}")
        if body.get("input_file_id") not in self.uploads:
            return _bad(f"Cannot find file {body.get('input_file_id')}")
        fault = self.faults.pop(0) if self.faults else Fault()
        name, lines = f"batch_{next(self._ids)}", self.uploads[body["input_file_id"]]
        record = {
            "id": name, "object": "batch", "created_at": int(time.time()), "status": "validating",
            **body,
        }  # fmt: skip
        record |= {"request_counts": {"total": 0, "completed": 0, "failed": 0}}
        record |= {"errors": None, "output_file_id": None, "error_file_id": None}
        self.batches[name] = Batch(record, lines, fault)
        return Reply(0) if fault.lost else json_reply(record)

    def _list(self, request: Request) -> Reply:
        records = [batch.record for batch in reversed(self.batches.values())]
        if after := re.search(r"after=([^&]+)", request.path):
            records = records[[record["id"] for record in records].index(after[1]) + 1 :]
        return json_reply({"object": "list", "data": records[:2], "has_more": len(records) > 2})

    def _look(self, name: str) -> Reply:
        self.looks += 1
        if self.down:
            return json_reply({"error": {"message": "Overloaded"}}, 503)
        if name not in self.batches:
            return json_reply({"error": {"message": f"No batch found with id '{name}'."}}, 404)
        batch = self.batches[name]
        before = None
        while before is None or (self.swift and before != batch.record["status"]):
            before = batch.record["status"]
            status = batch.record["status"]
            if status == "validating":
                if faults := batch.fault.reason or self._faults_of(batch):
                    self._end(batch, "failed", errors={"object": "list", "data": faults})
                else:
                    batch.record["status"] = "in_progress"
                    batch.record["request_counts"]["total"] = len(batch.lines)
            elif status == "in_progress" and not 0 < self.held <= list(self.batches).index(name) + 1:
                batch.record["status"] = "finalizing"
            elif status in ("finalizing", "cancelling"):
                self._finish(batch, "cancelled" if status == "cancelling" else batch.fault.ends)
        return json_reply(batch.record)

    def cancel(self, name: str) -> Reply:
        self.batches[name].record["status"] = "cancelling"
        return json_reply(self.batches[name].record)

    def _faults_of(self, batch: Batch) -> list[Body]:
        faults, seen = [], set[str]()
        under_way = [each for each in self.batches.values() if each.record["status"] in UNDER_WAY]
        if 0 < self.queue < sum(len(each.lines) for each in [*under_way, batch]):
            faults.append({"code": "token_limit_exceeded", "message": FULL, "line": None, "param": None})
        if len(batch.lines) > self.most:
            faults.append(
                {"code": "too_many_requests", "message": "Too many requests in the file.", "line": None}
            )
        for number, line in enumerate(batch.lines, start=1):
            said = None
            if line.keys() != {"custom_id", "method", "url", "body"} or line["method"] != "POST":
                said = "The line is not a request."
            elif line["custom_id"] in seen or len(line["custom_id"]) > 64:
                said = "The custom_id is a duplicate, or too long."
            elif line["url"] != batch.record["endpoint"]:
                said = "The URL provided for this request does not match the batch endpoint."
            elif line["body"].get("model") != batch.lines[0]["body"].get("model"):
                said = "All requests in the batch must use the same model."
            elif "stream" in line["body"] or "stream_options" in line["body"]:
                said = "Streaming is not supported in the batch API."
            seen.add(line["custom_id"])
            if said:
                faults.append({"code": "invalid_request", "message": said, "param": None, "line": number})
        return faults

    def _end(self, batch: Batch, status: str, **more: Any) -> None:
        batch.record |= {"status": status, f"{status}_at": int(time.time()), **more}

    def _finish(self, batch: Batch, status: str) -> None:
        out, bad = [], []
        for number, line in enumerate(random.sample(batch.lines, len(batch.lines))):
            head = {"id": f"batch_req_{next(self._ids)}", "custom_id": line["custom_id"]}
            if number >= (len(batch.lines) if batch.fault.answered is None else batch.fault.answered):
                error = {"code": f"batch_{status}", "message": "This request could not be executed in time."}
                bad.append({**head, "response": None, "error": error})
            elif refused := batch.fault.refused(line["body"]):
                body = {"error": {"message": refused[1], "type": "invalid_request_error", "code": None}}
                bad.append(
                    {
                        **head,
                        "response": {"status_code": refused[0], "request_id": "r", "body": body},
                        "error": None,
                    }
                )
            else:
                self.paid[line["custom_id"]] += 1
                body = self._completion(line["body"])
                out.append(
                    {**head, "response": {"status_code": 200, "request_id": "r", "body": body}, "error": None}
                )
        batch.record["request_counts"] |= {"completed": len(out), "failed": len(bad)}
        self._end(batch, status, output_file_id=self._file(out), error_file_id=self._file(bad))

    def _file(self, lines: list[Body]) -> str | None:
        if not lines:
            return None
        name = f"file-{next(self._ids)}"
        self.files[name] = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        return name


def _bad(message: str) -> Reply:
    return json_reply({"error": {"message": message, "type": "invalid_request_error"}}, 400)
