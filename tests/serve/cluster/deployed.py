"""Deploys the application of deploy/ray/serve.yaml, as `serve deploy` does: ADDRESS PORT ARGS."""

from __future__ import annotations

import json
import sys

from redraft.serve.cluster.connect import connected

if __name__ == "__main__":
    address, port, args = sys.argv[1:]
    with connected(address):
        from ray import serve

        from redraft.serve.cluster.application import application

        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": int(port)})
        serve.run(application(json.loads(args)), name="redraft", route_prefix="/")
