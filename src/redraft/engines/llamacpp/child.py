"""The process that a llama.cpp model runs in: `python -m redraft.engines.llamacpp.child`.

It reads one JSON object from standard input (see `Settings`), starts xllamacpp's server on 127.0.0.1, and
writes one line back: `{"address": …}` or `{"error": …}`. It ends when its standard input does, so it cannot
outlive its parent, however that dies. While a model is loaded, native code holds the interpreter and no
thread of ours runs, so a second, small process watches too and kills this one. (Linux can send a signal at a
parent's death, but it does so when the thread ends that made the child.) Ctrl-C is the parent's affair and is
ignored here.

A process of its own because a native crash must not take the program down. Nothing but the standard library
and xllamacpp is imported, so that it starts quickly.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import IO, Any, TypedDict

# A draft is what followed the last six tokens when they were last seen, eight tokens long. Chosen on 391 real
# SelFee revisions and 60 first drafts: the sizes that gain on copied text without losing on fresh text.
# Of llama.cpp's kinds this is the one without a memory: ngram-map-k finds nothing in a server's second text.
NGRAM_SIZE = 6
DRAFT_SIZE = 8

SPIN_COUNT = "3000"
"""How long a thread of OpenMP turns idly before it sleeps (GOMP_SPINCOUNT). libgomp's own choice is some
milliseconds: on a machine that was busy with other things that made tokens two to ten times slower, and none
faster where nothing else ran. A value in the environment stands."""

GRACE = 0.5
"""Seconds between the end of standard input and the kill."""

CACHE_MIB = 512
"""Memory for prompts whose slot was taken by another stream. llama.cpp's own default is 8 GiB."""


class Settings(TypedDict):
    """What the parent sends.

    Attributes:
        model: Path of the GGUF file.
        adapters: Paths of LoRA adapters, each applied at scale 1.
        context: Tokens a chain may fill; each of the `parallel` streams has as many.
        parallel: How many streams run at once; more wait in llama.cpp's own queue.
        threads: Threads that compute; None leaves it to llama.cpp.
        gpu_layers: Layers to put on the GPU; None leaves it to llama.cpp.
        speculate: Whether n-grams of the text so far are tried as drafts.
        key: The secret that every request has to show.
    """

    model: str
    adapters: list[str]
    context: int
    parallel: int
    threads: int | None
    gpu_layers: int | None
    speculate: bool
    key: str


def main() -> None:
    """Starts the server, reports its address, and stays until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = _claim_stdout()
    settings: Settings = json.loads(sys.stdin.readline())
    _watch()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        server = _serve(settings)
        reply = {"address": server.listening_address}
    except Exception as error:  # noqa: BLE001  (whatever it is, the parent must hear of it)
        reply = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply), file=replies, flush=True)
    if "address" in reply:
        threading.Event().wait()


def _claim_stdout() -> IO[str]:
    """The real standard output; whatever native code prints goes to standard error instead."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _watch() -> None:
    """Start the process that kills this one after standard input has ended. It comes before any thread."""
    watched = os.getpid()
    if os.fork():
        return
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(1, 64):  # whoever reads what the watched one writes must see its end
        with suppress(OSError):
            os.close(descriptor) if descriptor > 2 else os.dup2(nowhere, descriptor)
    sys.stdin.read()
    for _ in range(10):  # it has half a second to end by itself
        time.sleep(GRACE / 10)
        if os.getppid() != watched:
            os._exit(0)
    os.kill(watched, signal.SIGKILL)
    os._exit(0)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def _serve(settings: Settings) -> Any:
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 1.0) for path in settings["adapters"]]
    params.n_parallel = settings["parallel"]
    params.n_ctx = settings["context"] * settings["parallel"]
    params.kv_unified = False
    params.cache_ram_mib = CACHE_MIB
    _set_machine(params, settings)
    _set_closed_door(params, settings["key"])
    if settings["speculate"]:
        params.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
        params.speculative.ngram_simple.size_n = NGRAM_SIZE
        params.speculative.ngram_simple.size_m = DRAFT_SIZE
    return xllamacpp.Server(params)


def _set_machine(params: Any, settings: Settings) -> None:
    if settings["threads"] is not None:
        params.cpuparams.n_threads = settings["threads"]
        params.cpuparams_batch.n_threads = settings["threads"]
    if settings["gpu_layers"] is not None:
        params.n_gpu_layers = settings["gpu_layers"]


def _set_closed_door(params: Any, key: str) -> None:
    """Local address, a random port, a secret key, and no page or route that we do not use."""
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    params.ui = False
    params.endpoint_slots = False
    params.cors_origins = ""
    params.verbosity = 1


if __name__ == "__main__":
    main()
