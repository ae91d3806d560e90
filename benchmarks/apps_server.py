"""Run llama.cpp's own server with the default model, for redraft and its peers.

    with serving(parallel=4) as url: ...

The server is a process with the package xllamacpp, on 127.0.0.1.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from redraft.engines.llamacpp.default_model import cached_default

CONTEXT = 4096  # tokens of one stream


@contextmanager
def serving(parallel: int) -> Iterator[str]:
    """Yield the address of a server with `parallel` streams, such as `http://127.0.0.1:40001/v1`."""
    command = [sys.executable, __file__, str(cached_default()), str(parallel)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"{process.stdout.readline().strip()}/v1"
        process.kill()


def main(model: str, parallel: int) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_parallel, params.n_ctx, params.kv_unified = parallel, CONTEXT * parallel, False
    params.hostnames, params.port, params.verbosity = ["127.0.0.1"], 0, 1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    threading.Thread(target=sys.stdin.read).run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
