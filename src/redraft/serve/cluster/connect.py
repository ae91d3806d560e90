"""Connect to a running Ray cluster, or start a local cluster for the duration of the work.

A local cluster listens on 127.0.0.1, requires a token, has no dashboard and sends no usage reports. redraft
does not configure a running cluster. Connections use a token unless `RAY_AUTH_MODE` says otherwise. This
process must run on a machine of the cluster. Ray's client (`ray://`) is refused, because it sends pickles.
"""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from redraft import __version__
from redraft.errors import MissingExtra, RedraftError, UsageError

HERE = "local"  # the address of a cluster that is started on this machine
RUNNING = "auto"  # the address of a cluster that already runs on this machine
SECONDS = 5.0  # time limit, in seconds, for a head node to answer
PATIENCE = 300.0  # time limit, in seconds, for a machine to start a process

_RANGE = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")
_CLIENT = "ray://"  # prefix of addresses of Ray's client, which are refused
_ADDRESS = re.compile(r"(?P<host>[\w.-]+|\[[\da-fA-F:]+\]):(?P<port>\d{1,5})")
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # with Ray's default, 15, workers would starve beside other work
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's future default; without it, Ray warns
}
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0" makes Ray listen only on 127.0.0.1, on any system


class Bounds(NamedTuple):
    """A range for the number of replicas or processes on a cluster, such as `2-8` or `8`."""

    least: int
    most: int

    @classmethod
    def read(cls, text: str, name: str, *, lowest: int = 1) -> Bounds:
        """Parse a range, `2-8`. Raise `UsageError` if it is wrong, begins below `lowest` or ends at 0."""
        found = _RANGE.fullmatch(text)
        least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not (lowest <= least <= most and most):
            hint = f"Write a number or a range, such as 8 or {lowest}-8."
            raise UsageError(f"{name} is {text!r:.40}, which is not a valid range.", hint=hint)
        return cls(least, most)


class ClusterError(RedraftError):
    """Raised if the cluster cannot be used in its current state."""

    exit_status = 3


def is_address(text: str) -> bool:
    """Return whether a text looks like an address: `HOST:PORT`, `local`, `auto`, or Ray's `ray://…`."""
    return text in (HERE, RUNNING) or text.startswith(_CLIENT) or bool(_ADDRESS.fullmatch(text))


@contextmanager
def connected(address: str = HERE, *, cpus: int | None = None) -> Iterator[Any]:
    """Connect to Ray, and yield the module `ray`. At the end, disconnect, and stop a cluster started here.

    `address` is the HOST:PORT of a head, `auto` for the cluster of this machine, or `local` to start a
    cluster that offers `cpus` processors (by default, all of the machine).

    Raises:
        MissingExtra: Ray is not installed.
        UsageError: `address` is not an address, or is for Ray's client.
        ClusterError: No cluster can be joined, or a machine has another version of redraft or Python.
    """
    ray = _module(address)
    how: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address == HERE:
        how |= {"num_cpus": cpus, "include_dashboard": False}
    try:
        ray.init(**how)
    except Exception as error:  # noqa: BLE001  (Ray raises many kinds, its own and Python's)
        raise _fault(address, error) from None
    try:
        check_machines(ray)
        yield ray
    finally:
        ray.shutdown()


def _module(address: str) -> Any:
    if address.startswith(_CLIENT):
        hint = "Run the command on a machine of the cluster, with --ray auto."
        raise UsageError(f"redraft refuses Ray's client, because it sends pickles: {address}.", hint=hint)
    if not is_address(address):
        hint = "Write --ray HOST:6379, --ray auto, or just --ray for this machine."
        raise UsageError(f"--ray: {address!r:.80} is not an address.", hint=hint)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address == HERE:
        os.environ.setdefault(_LOOPBACK, "0")
        given = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
        if not (given or Path.home().joinpath(".ray", "auth_token").exists()):
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    elif found := _ADDRESS.fullmatch(address):
        try:
            socket.create_connection((found["host"].strip("[]"), int(found["port"])), SECONDS).close()
        except (OSError, OverflowError) as error:
            fault, port = getattr(error, "strerror", None) or str(error), int(found["port"])
            hint = f"Start one: ray start --head --port {port}. Or leave out the address to use this machine."
            raise ClusterError(f"no Ray cluster answers at {address}: {fault}.", hint=hint) from None
    try:
        import ray  # Ray reads the environment when it is imported
    except ImportError:
        raise MissingExtra("--ray", "cluster") from None
    return ray


def _fault(address: str, error: Exception) -> ClusterError:
    said = " ".join(str(error).split())
    if found := re.search(r"started with: Ray: (\S+) Python: (\S+) .*with: Ray: (\S+) Python: (\S+)", said):
        theirs, ours = f"Ray {found[1]} on Python {found[2]}", f"Ray {found[3]} on Python {found[4]}"
        hint = "Install the same versions on all machines of the cluster."
        return ClusterError(f"the cluster at {address} has {theirs}, but this machine has {ours}.", hint=hint)
    if address == HERE:
        hint = "The machine may be overloaded. Try again later, or leave out --ray."
        return ClusterError(f"Ray cannot be started on this machine: {said:.300}", hint=hint)
    hint = (
        "This machine must be part of the cluster (ray start --address HOST:6379) and know the token:"
        " RAY_AUTH_TOKEN, or ~/.ray/auth_token. See docs/cluster.md."
    )
    return ClusterError(f"the Ray cluster at {address} cannot be joined: {said:.300}", hint=hint)


def versions() -> dict[str, str]:
    """Return the versions that must be equal on all machines of a cluster."""
    return {"redraft": __version__, "Python": platform.python_version()}


def check_versions(theirs: Mapping[str, Any], machine: str) -> None:
    """Raise `ClusterError` if the versions of `machine` differ from this machine's versions."""
    for name, ours in versions().items():
        if (found := theirs.get(name)) != ours:
            message = f"{name} is {found or 'not installed'} on the machine {machine}, but {ours} here."
            raise ClusterError(message, hint="Install the same version on all machines of the cluster.")


def check_machines(ray: Any) -> None:
    """Raise `ClusterError` if a machine of the cluster lacks redraft or has other versions than this one."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked, replies = ray.remote(_versions_as_json), dict[str, Any]()
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            how = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": there}
            replies[f"{node['NodeManagerAddress']} ({node['NodeID'][:6]})"] = asked.options(**how).remote()
    for machine, reply in replies.items():
        check_versions(_answer(ray, machine, reply), machine)


def _versions_as_json() -> str:
    return json.dumps(versions())


def _answer(ray: Any, machine: str, reply: Any) -> dict[str, Any]:
    try:
        return dict(json.loads(ray.get(reply, timeout=PATIENCE)))
    except ray.exceptions.GetTimeoutError:
        hint = "The machine may be overloaded, or full of processes. Run: ray status"
        raise ClusterError(f"machine {machine} has not answered in {PATIENCE:.0f} s.", hint=hint) from None
    except ray.exceptions.RayTaskError:  # redraft cannot be imported there
        return {}
    except ray.exceptions.RayError:  # the machine was lost meanwhile
        return dict(versions())
