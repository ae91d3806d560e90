"""Repositories of a hub, on a `FakeServer`. The fixture `hub` is one without any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tests.engines.fake_server import FakeServer, Reply, json_reply

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NOWHERE = "http://127.0.0.1:9"  # no hub is there


def publish(
    server: FakeServer,
    repo: str,
    files: Mapping[str, bytes],
    kind: Literal["models", "datasets"] = "models",
    licence: str | None = None,
) -> None:
    card = {"cardData": {"license": licence}} if licence else {}
    record = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files], **card}
    tree = [
        {"type": "file", "path": name, "size": len(data), "oid": f"{number:040x}"}
        for number, (name, data) in enumerate(files.items())
    ]
    for path, told in (("", record), ("/revision/main", record), (f"/tree/{COMMIT}", tree)):
        server.on(f"GET /api/{kind}/{repo}{path}", json_reply(told))
    folder = f"/{repo}" if kind == "models" else f"/datasets/{repo}"
    for number, (name, data) in enumerate(files.items()):
        about = {"ETag": f'"{number:040x}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(data))}
        for revision in ("main", COMMIT):
            file = f"{folder}/resolve/{revision}/{name}"
            server.on(f"HEAD {file}", Reply(200, about)).on(f"GET {file}", Reply(200, {}, [data]))
