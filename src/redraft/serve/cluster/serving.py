"""Run the models of `redraft serve --ray`, each as an application of Ray Serve with replicas on nodes.

The server's process has the event loop, keys, gate and page, and sends requests straight to replicas, not
through Ray's proxy. The applications end with this process. If the process is killed, the applications run
until the next `redraft serve --ray` with the same name.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.config import RequestRouterConfig

from redraft.engines.base import Engine
from redraft.engines.load import fetches, load_engine, local_file, parse_reference, references_of
from redraft.engines.retry import Patience
from redraft.jobs.signals import in_daemon_thread
from redraft.serve.cluster.connect import Bounds, ClusterError
from redraft.serve.cluster.engine import RayEngine
from redraft.serve.cluster.replica import Replica

DEPLOYMENT = "model"  # the name of an application's only deployment
NAMESPACE = "redraft"  # Ray's namespace for the names of servers
PATIENT = 30.0  # seconds after which the user is told that replicas are still starting
_FAULT = re.compile(r"^(?:\w+\.)*errors\.\w+: (.+?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)


def deployment(reference: str, how: Mapping[str, Any], replicas: Bounds) -> Any:
    """Return the Ray Serve application that runs a model. `how` contains arguments of `load_engine`."""
    streams: int = how["parallel"]
    scale: dict[str, Any] = {"num_replicas": replicas.most}
    if replicas.least < replicas.most:
        scaling = {"min_replicas": replicas.least, "max_replicas": replicas.most}
        scale = {"autoscaling_config": {**scaling, "target_ongoing_requests": streams}}
    made = serve.deployment(Replica).options(
        name=DEPLOYMENT,
        max_ongoing_requests=streams,
        ray_actor_options=needs(reference, how),
        request_router_config=RequestRouterConfig(
            request_router_class="redraft.serve.cluster.replica:PrefixRouter"
        ),
        max_constructor_retry_count=1,
        graceful_shutdown_wait_loop_s=0.2,
        **scale,
    )
    return made.bind(reference, dict(how), str(Path.cwd()))


def needs(reference: str, how: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resources that a replica needs on a node: processors, and memory for the model's files."""
    size = sum(file.stat().st_size for part in references_of(reference) for file in _files(part))
    return {"num_cpus": how.get("threads") or 1, **({"memory": size} if size else {})}


def _files(reference: str) -> list[Path]:
    named = parse_reference(reference)
    if named.kind not in ("default", "hub", "gguf", "folder") or fetches(reference):
        return []
    paths = [Path(named.target) if named.kind == "folder" else local_file(named), *named.adapters]
    return [file for path in paths for file in (path, *path.rglob("*")) if file.is_file()]


class Name:
    """An actor that reserves a server's name while the server runs."""


@dataclass
class Applications:
    """The models that one server runs on nodes, as the applications `name-1`, `name-2`…"""

    ray: Any
    name: str
    replicas: Bounds
    tell: Callable[[str], None] = lambda _: None
    _names: list[str] = field(default_factory=list)
    _held: Any = None

    async def open(
        self, reference: str, *, patience: Patience | None = None, batches: Any = None, **how: Any
    ) -> Engine:
        """Open an engine as `load_engine` does."""
        # The ingress asks a model's remote server itself, so that the server's key stays here.
        if any(parse_reference(part).kind == "remote" for part in references_of(reference)):
            return await load_engine(reference, patience=patience, batches=batches, **how)
        if self._held is None:
            self._held = await in_daemon_thread(self._hold)
            await in_daemon_thread(self._end_old)
        name = f"{self.name}-{len(self._names) + 1}"
        self._names.append(name)
        deploying = in_daemon_thread(partial(self._deployed, name, reference, how))
        await asyncio.wait({deploying}, timeout=PATIENT)
        if not deploying.done():
            self.tell(f"waiting for {reference}: it is loading, or no node has room. Run: ray status")
        return await RayEngine.connect(await deploying, patience or Patience())

    def _hold(self) -> Any:
        try:
            return self.ray.remote(Name).options(name=self.name, namespace=NAMESPACE, num_cpus=0).remote()
        except ValueError:
            message = f"a server named {self.name!r} already runs on this cluster."
            raise ClusterError(message, hint="Give the new server another name: --app NAME") from None

    def _end_old(self) -> None:
        logging.getLogger("ray.serve").setLevel(logging.ERROR)  # the engine logs each failure in one line
        serve.start(proxy_location="Disabled")
        for name, app in serve.status().applications.items():
            if re.fullmatch(rf"{re.escape(self.name)}-\d+", name) and [*app.deployments] == [DEPLOYMENT]:
                serve.delete(name)

    def _deployed(self, name: str, reference: str, how: Mapping[str, Any]) -> Any:
        try:
            return serve.run(deployment(reference, how, self.replicas), name=name, route_prefix=None)
        except RuntimeError as error:
            app = serve.status().applications.get(name)
            told = [each.message for each in app.deployments.values()] if app else []
            said = "\n\n".join([*told, str(error)])
            found = _FAULT.findall(said)
            why = found[-1].strip() if found else " ".join(said.split())[-300:]
            raise ClusterError(f"{reference} cannot be started on the cluster: {why}") from None

    async def aclose(self) -> None:
        """End the applications."""
        for name in self._names:
            with suppress(Exception):  # the cluster may be gone
                await asyncio.to_thread(serve.delete, name)
        with suppress(Exception):
            self.ray.kill(self._held)
