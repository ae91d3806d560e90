"""Run a llama.cpp model in its own process: `python -m redraft.engines.llamacpp.child`.

The process reads `ChildSettings` from standard input, starts xllamacpp's server on 127.0.0.1, and writes one
line: `{"address": …}` or `{"error": …}`. A watcher process, which also runs this file, kills the process when
standard input ends, so that the process cannot outlive its parent. Only the standard library and xllamacpp
are imported, for a quick start.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any, TypedDict

# A draft is the eight tokens that followed the last occurrence of the last six tokens. Chosen on 391 real
# SelFee revisions and 60 first drafts: these sizes speed up copied text without slowing down fresh text.
# ngram-simple keeps no state; ngram-map-k finds nothing in a server's second text.
NGRAM_SIZE = 6
DRAFT_SIZE = 8

SPIN_COUNT = "3000"
"""How many times an idle OpenMP thread spins before sleeping (GOMP_SPINCOUNT). libgomp's default of some
milliseconds made tokens two to ten times slower on a busy machine, and no faster on an idle machine. The
environment variable takes precedence."""

_TERMINATE = 1  # PROCESS_TERMINATE of Windows

CACHE_MIB = 512  # memory for prompts that lost their slot to another stream. llama.cpp's default is 8 GiB


class ChildSettings(TypedDict):
    """The settings that the parent sends."""

    model: str
    adapters: list[str]  # paths of LoRA adapters, applied at scale 1 unless a request sets scales
    context: int  # tokens of each of the `parallel` streams
    parallel: int  # maximum number of streams at once; others wait in llama.cpp's queue
    threads: int | None
    gpu_layers: int | None
    gpu: bool  # fail if there is no GPU
    speculate: bool
    key: str


def main() -> None:
    """Start the server, report its address, and run until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output of native code goes to standard error
    settings: ChildSettings = json.loads(sys.stdin.readline())
    # The watcher kills this process when standard input ends. A thread could not run while a model loads,
    # because native code holds the GIL. Linux's parent-death signal comes too early, when the thread that
    # started the child ends.
    nowhere = subprocess.DEVNULL  # an inherited output would stay open when this process ends
    command = [sys.executable, "-I", "-S", __file__, str(os.getpid())]
    watcher = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)  # noqa: F841, S603  (kept: no wait)
    try:
        server = _serve(settings)
        reply = {"address": server.listening_address}
    except Exception as error:  # noqa: BLE001  (reported to the parent)
        reply = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply), file=replies, flush=True)
    if "address" in reply:
        threading.Event().wait()


def _kill_after_input(watched: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "win32":
        import _winapi

        process = _winapi.OpenProcess(_TERMINATE, False, watched)  # noqa: FBT003  (while open, nothing else gets its number)
        sys.stdin.buffer.read()
        _winapi.TerminateProcess(process, 1)
    else:
        sys.stdin.buffer.read()
        if os.getppid() == watched:
            os.kill(watched, signal.SIGKILL)


def _serve(settings: ChildSettings) -> Any:
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 1.0) for path in settings["adapters"]]
    params.lora_init_without_apply = True  # each request applies its adapters
    params.n_parallel = settings["parallel"]
    params.n_ctx = settings["context"] * settings["parallel"]
    params.kv_unified = False
    params.cache_ram_mib = CACHE_MIB
    devices = xllamacpp.get_device_info()
    if all(device["type"].name.endswith(("_CPU", "_ACCEL")) for device in devices):
        if settings["gpu"]:
            names = ", ".join(str(device["name"]) for device in devices)
            raise RuntimeError(f"it finds no GPU, only {names}. Use --device cpu, without --gpu-layers")
        params.fit_params = False  # fitting would load the model twice, to test a GPU
    if settings["threads"] is not None:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    if settings["gpu_layers"] is not None:
        params.n_gpu_layers = settings["gpu_layers"]
    # A local address, a random port and a secret key; unused pages and routes are closed.
    params.hostnames, params.port, params.api_keys = ["127.0.0.1"], 0, [settings["key"]]
    params.ui = params.endpoint_slots = False
    params.cors_origins, params.verbosity = "", 1
    if settings["speculate"]:
        params.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
        params.speculative.ngram_simple.size_n = NGRAM_SIZE
        params.speculative.ngram_simple.size_m = DRAFT_SIZE
    return xllamacpp.Server(params)


if __name__ == "__main__":
    if sys.argv[1:]:
        _kill_after_input(int(sys.argv[1]))
    else:
        main()
