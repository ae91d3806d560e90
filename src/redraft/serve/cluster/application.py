"""`redraft serve` as an application of Ray Serve: the ingress is a deployment too, behind Ray's own proxy.

`import_path: redraft.serve.cluster.application:application` in a file of `serve deploy` or KubeRay, as in
deploy/ray/serve.yaml. Changing the file rolls: old replicas end when their replies are done.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import ray
from ray import serve

from redraft.engines.base import Engine
from redraft.engines.load import load_engine
from redraft.engines.retry import Patience
from redraft.errors import UsageError
from redraft.jobs.machine import instructions, many_streams
from redraft.options import Flags, MachineOptions, OptionModel, option
from redraft.revision.settings import Settings
from redraft.serve.app import make_app
from redraft.serve.cluster.connect import Bounds
from redraft.serve.cluster.engine import RayEngine
from redraft.serve.cluster.serving import deployment, is_remote
from redraft.serve.cluster.status import Reporter
from redraft.serve.gate import Gate
from redraft.serve.keys import Keys
from redraft.serve.models import Models
from redraft.serve.reader import Limits
from redraft.serve.start import Opening

STREAMS = 10_000  # most requests that Ray lets into an ingress. Its gate decides.


class Arguments(OptionModel):
    """The `args` of the application: flags of `redraft serve`."""

    models: dict[str, dict[str, Any]] = option("names of models, each with the keys of a recipe")
    api_key_file: str | None = option("API keys, one a line; null for 127.0.0.1 alone")
    replicas: str = option("replicas of each model: a number or a range", default="1")
    parallel: int = option("chains at once, of each replica", default=4, ge=1)
    queue: int = option("requests that may wait, for each model", default=64, ge=0)
    max_seconds: float = option("the longest that a chain may take", default=600.0, gt=0)


def application(args: Mapping[str, Any]) -> Any:
    """Return the application. `args` are those of `Arguments`.

    Raises:
        UsageError: An argument is wrong. Without `api_key_file` it has to say `null`.
    """
    given = Arguments.read(args, where="args of the application: ")
    if "api_key_file" not in args:
        message = "args of the application: api_key_file is missing."
        raise UsageError(message, hint="Name a file; or write null, if the proxy listens on 127.0.0.1 alone.")
    replicas, found = _replicas(given), dict[str, Any]()
    models = _settings(given).values()
    steered = any(settings.get("steer") is not False for settings in models)  # as in serve.start.opened
    fast = given.parallel >= many_streams(instructions()) and not steered
    for settings in models:
        for role, reference in settings.references().items():
            machine = {name: settings.get(name) for name in MachineOptions.model_fields if role == "model"}
            if not is_remote(reference) and (key := _key(reference, machine)) not in found:
                how = {**machine, "parallel": given.parallel, "fast": fast and role == "model"}
                name = f"model-{len(found) + 1}"
                found[key] = deployment(reference, how, replicas, name=name)
    ingress = serve.deployment(serve.ingress()(Ingress)).options(
        name="ingress", max_ongoing_requests=STREAMS, ray_actor_options={"num_cpus": 0}
    )
    return ingress.bind(given.explicit, found)


class Ingress:
    """The server, on a node."""

    def __init__(self, args: Mapping[str, Any], handles: Mapping[str, Any]) -> None:
        self._given, self._handles = Arguments.read(args), handles
        self._stack = AsyncExitStack()

    async def __serve_build_asgi_app__(self) -> Any:
        """Return the application of FastAPI."""
        given = self._given
        keys = Keys.read(Path(given.api_key_file)) if given.api_key_file else None
        gate = Gate(given.parallel * _replicas(given).most, given.queue)
        models = [(name, "", settings) for name, settings in _settings(given).items()]
        context, offered = serve.get_replica_context(), Models()
        self._reporter = await Reporter.start(ray, f"{context.app_name}/{context.replica_id.unique_id}")
        opening = Opening(self._stack, models, given.parallel, opens=self._open)
        offered.offer([await opening.open(*each) for each in models])
        return make_app(offered, gate, Limits(seconds=given.max_seconds), keys)

    async def _open(self, reference: str, *, patience: Patience | None = None, **how: Any) -> Engine:
        if is_remote(reference):
            return await load_engine(reference, patience=patience, **how)
        machine = {name: how.get(name) for name in MachineOptions.model_fields}
        handle = self._handles[_key(reference, machine)]
        engine = await RayEngine.connect(handle, patience or Patience())
        self._reporter.add(handle.deployment_id.app_name, handle.deployment_id.name, engine)
        return engine


def _replicas(given: Arguments) -> Bounds:
    return Bounds.read(given.replicas, "replicas", lowest=0)


def _settings(given: Arguments) -> dict[str, Settings]:
    return {
        name: Settings.read(Flags, Flags.read_file(keys, where=f"{name}: ").explicit)
        for name, keys in given.models.items()
    }


def _key(reference: str, machine: Mapping[str, Any]) -> str:
    """Return what tells one engine from another. Critic and judge have no flags of the machine."""
    return repr((reference, sorted((name, value) for name, value in machine.items() if value is not None)))
