"""Run an OpenVINO model in its own process: `python -m redraft.engines.openvino.child`.

The process reads `ChildSettings` from standard input, loads the model, and writes one line: `{}` or
`{"error": …}`. Then each line of input is a `Request` with an id (`{"id": 1, "tokens": […], …}`), or only the
id of a request to cancel (`{"id": 1}`). Each line of output is a list of `Event`s.

One thread does everything, because a step holds the GIL. Requests are read between steps. Only the standard
library and OpenVINO are imported, for a quick start.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, TypedDict

CACHED = "f16"
"""The number format of the key-value cache. With f16, 112 of 128 predicted tokens were the same as with exact
weights. With OpenVINO's default of 8 bits, only 107 were the same, and nothing was faster."""

REFUSED = "the schema is refused: "

Event = tuple[int, list[int], list[float], str]
"""An update of a stream: id, new tokens, log-probabilities if requested, and the finish reason (`stop`,
`length`, an error, or ""). An error that begins with `REFUSED` is about a schema, and ends the process."""


class ChildSettings(TypedDict):
    """The settings that the parent sends."""

    model: str
    tokenizer: str  # a folder for the model's tokenizer in OpenVINO's format
    parallel: int  # maximum number of streams at once; others wait
    threads: int | None
    exact: bool  # whether to compute in 32 bits
    blocks: int  # number of blocks of the key-value cache, of `BLOCK` tokens each


class Request(TypedDict):
    """A request to continue `tokens`. The parent adds an id when it sends the request."""

    tokens: list[int]
    sampling: dict[str, Any]  # fields of GenerationConfig
    ends: list[int]  # tokens that end a text
    schema: str  # a JSON Schema to enforce; empty for none
    end: str  # a regular expression for the text after the value; empty for none


def main() -> None:
    """Load the model, and serve requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    without_telemetry()
    replies = os.dup(1)
    os.dup2(2, 1)  # output of native code goes to standard error
    lines = Lines()
    settings: ChildSettings = json.loads(lines.read(wait=True)[0])
    try:
        pipeline = _load(settings)
        reply = {}
    except Exception as error:  # noqa: BLE001  (reported to the parent)
        reply = {"error": f"{type(error).__name__}: {error}"}
    _write(replies, reply)
    if not reply:
        Streams(pipeline, lines, replies).run()


def without_telemetry() -> None:
    """Turn off OpenVINO's reports to Google Analytics."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # as if it were not installed


class Lines:
    """The lines of standard input. The process exits when standard input ends."""

    def __init__(self) -> None:
        self._rest = b""

    def read(self, *, wait: bool) -> list[bytes]:
        """Return the lines that have arrived. With `wait`, wait for at least one line."""
        found: list[bytes] = []
        while select.select([0], [], [], 0 if found or not wait else None)[0]:
            piece = os.read(0, 1 << 20)
            if not piece:
                os._exit(0)
            *more, self._rest = (self._rest + piece).split(b"\n")
            found += more
        return found


def _write(descriptor: int, value: Any) -> None:
    left = memoryview(json.dumps(value, separators=(",", ":")).encode() + b"\n")
    while left:
        left = left[os.write(descriptor, left) :]


def _load(settings: ChildSettings) -> Any:
    import openvino_genai

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.enable_prefix_caching = True
    scheduler.max_num_seqs = settings["parallel"]
    scheduler.num_kv_blocks = settings["blocks"]
    properties: dict[str, Any] = {"KV_CACHE_PRECISION": CACHED}
    if settings["threads"] is not None:
        properties["INFERENCE_NUM_THREADS"] = settings["threads"]
    if settings["exact"]:
        properties["INFERENCE_PRECISION_HINT"] = "f32"
    model = Path(settings["model"])
    tokenizer = _tokenizer(model, Path(settings["tokenizer"]))
    return openvino_genai.ContinuousBatchingPipeline(model, tokenizer, scheduler, "CPU", **properties)


def _tokenizer(model: Path, folder: Path) -> Any:
    """Return OpenVINO's tokenizer. The result is cached in `folder`, because the conversion is slow."""
    import openvino_genai

    if folder.exists():
        try:
            return openvino_genai.Tokenizer(folder)
        except RuntimeError:  # the folder is damaged, or another version made it
            shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            link = Path(work, "tokenizer", model.name)
            link.parent.mkdir()
            link.symlink_to(model.resolve())
            tokenizer = openvino_genai.Tokenizer(link, {"enable_save_ov_model": True})
            link.unlink()
            link.parent.rename(folder)  # fails if another process was faster
            return tokenizer
    except (OSError, RuntimeError):  # for example, a full disk
        return openvino_genai.Tokenizer(model)


class Streams:
    """Runs the pipeline: accepts requests, computes steps, and reports new tokens."""

    def __init__(self, pipeline: Any, lines: Lines, replies: int) -> None:
        self._pipeline, self._lines, self._replies = pipeline, lines, replies
        self._handles: dict[int, Any] = {}
        self._new: list[Event] = []  # events that were not reported yet
        self._schemas: set[int] = set()  # streams with a schema, and no token yet

    def run(self) -> None:
        """Serve requests for ever."""
        while True:
            for line in self._lines.read(wait=not self._pipeline.has_non_finished_requests()):
                self._take(json.loads(line))
            if self._pipeline.has_non_finished_requests():
                try:
                    self._pipeline.step()
                except RuntimeError as error:
                    reason = str(error).strip().splitlines()[-1]
                    _write(self._replies, [(number, [], [], REFUSED + reason) for number in self._schemas])
                    print(error, file=sys.stderr, flush=True)
                    os._exit(1)
            for number in list(self._handles):
                self._collect(number)
            if self._new:
                _write(self._replies, self._new)
                self._new = []

    def _take(self, request: dict[str, Any]) -> None:
        number = request["id"]
        if "tokens" in request:
            try:
                self._handles[number] = self._added(number, request)
            except Exception as error:  # noqa: BLE001  (reported to the parent)
                self._new.append((number, [], [], f"{type(error).__name__}: {error}"))
        elif handle := self._handles.pop(number, None):
            handle.cancel()
            self._schemas.discard(number)

    def _added(self, number: int, request: dict[str, Any]) -> Any:
        import numpy as np
        import openvino
        import openvino_genai

        config = openvino_genai.GenerationConfig(**request["sampling"])
        config.stop_token_ids = set(request["ends"])
        if request["schema"]:
            self._schemas.add(number)
            kinds = openvino_genai.StructuredOutputConfig
            schema, end = kinds.JSONSchema(request["schema"]), kinds.Regex(request["end"])
            tags = kinds.Concat(schema, end) if request["end"] else schema
            config.structured_output_config = kinds(structural_tags_config=tags)
        ids = openvino.Tensor(np.array([request["tokens"]], dtype=np.int64))
        return self._pipeline.add_request(number, ids, config)

    def _collect(self, number: int) -> None:
        handle = self._handles[number]
        tokens: list[int] = []
        logprobs: list[float] = []
        finish = ""
        while handle.can_read():
            for output in handle.read().values():
                tokens += output.generated_ids
                logprobs += output.generated_log_probs
                finish = output.finish_reason.name.lower()
        if finish in ("", "none"):
            finish = "" if handle.get_status().name == "RUNNING" else handle.get_status().name
        if not tokens and not finish:
            return
        self._schemas.discard(number)
        self._new.append((number, tokens, logprobs, finish))
        if finish:
            del self._handles[number]


if __name__ == "__main__":
    main()
