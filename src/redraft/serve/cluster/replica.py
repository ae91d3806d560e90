"""Run a replica of a model on a node: an engine that another process calls.

Replicas never get the keys and headers of clients. Each message contains several tokens, because one message
per token is too slow with many streams. A router in Ray Serve sends a chain to the replica that read the
chain's beginning, unless that replica is much busier than another.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict, defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, Literal, NamedTuple, cast

from ray import serve
from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from redraft.engines.base import Delta, EngineInfo, Replies, Resumer, Sampling, Tokens
from redraft.engines.load import load_engine
from redraft.errors import RedraftError

Way = Literal["stream", "chat"]

BETWEEN = 0.02
"""Seconds between two messages of a reply. Readers do not notice 20 ms."""

FACTOR = 2.0
"""A chain moves if its replica has over `FACTOR` times the streams of the least busy replica, plus `SLACK`.
Reading a prompt again is faster than waiting for twice as many streams."""

SLACK = 2  # extra streams allowed, so that a small difference does not move a chain
HOMES = 10_000  # chains whose replica is remembered


class Fault(NamedTuple):
    """The class and attributes of a redraft error, which can be sent to another process."""

    kind: type[RedraftError]
    said: Mapping[str, Any]

    @classmethod
    def of(cls, error: RedraftError) -> Fault:
        """Pack an error without its attribute `chain`."""
        return cls(type(error), {**vars(error), "chain": None})

    @property
    def error(self) -> RedraftError:
        """Unpack the error."""
        error = self.kind.__new__(self.kind, self.said["message"])
        vars(error).update(self.said)
        return error


class ReplicaPiece(NamedTuple):
    """A message from a replica: the replica's name, with new deltas or the error that stopped the reply."""

    replica: str
    deltas: tuple[Delta, ...] = ()
    fault: Fault | None = None


class Replica:
    """An engine on a node. Ray Serve starts replicas, and replaces dead replicas."""

    async def __init__(self, reference: str, how: Mapping[str, Any], folder: str) -> None:  # type: ignore[misc]
        """Open the engine of a model reference.

        Paths are relative to `folder`, if that folder exists here. `how` contains arguments of `load_engine`.
        """
        with suppress(OSError):
            os.chdir(folder)
        self._name = serve.get_replica_context().replica_id.unique_id
        self._engine = await load_engine(reference, **how)

    async def about(self) -> tuple[EngineInfo, bool]:
        """Return the engine's info, and whether the engine can resume replies that other replicas began."""
        return self._engine.info, isinstance(self._engine, Resumer)

    async def ask(self, method: str, *given: Any, **more: Any) -> Any:
        """Call a method of the engine. Return the result, or the error as a `Fault`."""
        try:
            return await getattr(self._engine, method)(*given, **more)
        except RedraftError as error:
            return Fault.of(error)

    async def reply(
        self,
        way: Way,
        asked: Any,
        sampling: Sampling,
        stop: Sequence[str],
        said: Tokens = (),
        *,
        chain: str = "",  # noqa: ARG002  (for the router)
    ) -> AsyncGenerator[ReplicaPiece, None]:
        """Call the engine's method `way`. With `said`, continue a reply that broke off after these tokens."""
        try:
            if said:
                deltas = cast("Resumer", self._engine).resume(asked, sampling, stop, said)
            else:
                deltas = getattr(self._engine, way)(asked, sampling, stop)
            async with aclosing(bundled(deltas, BETWEEN)) as pieces:
                async for piece in pieces:
                    yield ReplicaPiece(self._name, piece)
        except RedraftError as error:
            yield ReplicaPiece(self._name, fault=Fault.of(error))

    async def __del__(self) -> None:
        """End the engine. Otherwise the engine's process would outlive the replica."""
        if engine := getattr(self, "_engine", None):
            await engine.aclose()


async def bundled(deltas: Replies, seconds: float) -> AsyncGenerator[tuple[Delta, ...], None]:
    """Yield deltas in bundles: the first delta at once, then all new deltas every `seconds` seconds."""
    found: list[Delta] = []
    come = asyncio.Event()

    async def read() -> None:
        async with aclosing(deltas):
            async for delta in deltas:
                found.append(delta)
                come.set()

    reading = asyncio.ensure_future(read())
    reading.add_done_callback(lambda _: come.set())
    try:
        while not (reading.done() and not found):
            await come.wait()
            come.clear()
            if found:
                piece = tuple(found)
                found.clear()
                yield piece
                await asyncio.wait({reading}, timeout=seconds)
        reading.result()
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError, RedraftError):
            await reading


class PrefixRouter(RequestRouter):  # type: ignore[misc]  # mypy does not read Ray
    """Prefers the same replica for all requests of a chain."""

    def initialize_state(self) -> None:
        """Start without any chains."""
        self._homes: OrderedDict[str, ReplicaID] = OrderedDict()
        # Ray forgets its own counts after 10 s, but a reply may take minutes.
        self._inside: defaultdict[ReplicaID, set[str]] = defaultdict(set)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the preferred replica, then all replicas in order of load, the least busy first."""
        if not candidate_replicas:
            return []
        ranked = sorted(candidate_replicas, key=self._streams)
        home = self._homes.get(_chain_of(pending_request))
        most = FACTOR * self._streams(ranked[0]) + SLACK
        first = [each for each in ranked if each.replica_id == home and self._streams(each) <= most]
        return [first or ranked[:1], ranked]

    def on_request_routed(
        self,
        pending_request: PendingRequest,
        replica_id: ReplicaID,
        result: Any,  # noqa: ARG002  (Ray's signature)
    ) -> None:
        """Remember which replica got a chain."""
        self._inside[replica_id].add(pending_request.metadata.internal_request_id)
        if chain := _chain_of(pending_request):
            self._homes[chain] = replica_id
            self._homes.move_to_end(chain)
            if len(self._homes) > HOMES:
                self._homes.popitem(last=False)

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Stop counting a stream on a replica."""
        self._inside[replica_id].discard(internal_request_id)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Replace the list of replicas."""
        super().update_replicas(replicas)
        for gone in self._inside.keys() - {each.replica_id for each in replicas}:
            del self._inside[gone]

    def _streams(self, replica: RunningReplica) -> int:
        return len(self._inside[replica.replica_id])


def _chain_of(request: PendingRequest | None) -> str:
    return str(request.kwargs.get("chain", "")) if request else ""
