"""llama.cpp's own server, from the package xllamacpp.

python llama_server.py MODEL KEY [TEMPLATE] --port N
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path


def main(model: str, key: str, *more: str) -> None:
    import xllamacpp

    *template, _, port = more

    params = xllamacpp.CommonParams()
    params.model.path, params.api_keys = model, [key]
    params.n_parallel, params.n_ctx, params.kv_unified = 2, 4096, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.hostnames, params.port, params.verbosity = ["127.0.0.1"], int(port), 1
    if template:
        params.chat_template = Path(template[0]).read_text()
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
