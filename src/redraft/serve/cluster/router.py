"""Which replica a chain goes to: the one that read its beginning, unless that one is much fuller.

Ray Serve runs it where requests come from. It is named in the options of a deployment, and imports Ray.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

FACTOR = 2.0
"""How many times the streams of the least full replica one may have, plus `SLACK`, before chains leave it.
Reading a prompt again is cheaper than waiting behind twice the streams."""

SLACK = 2  # streams that do not count: of 1 and 2 streams the second is no crowd
HOMES = 10_000  # chains whose replica is remembered


class PrefixRouter(RequestRouter):  # type: ignore[misc]  # mypy does not read Ray
    """Keeps a chain on one replica."""

    def initialize_state(self) -> None:
        """Begin without chains."""
        self._homes: OrderedDict[str, ReplicaID] = OrderedDict()
        # Ray's own numbers are forgotten after 10 s, and a reply may take minutes.
        self._inside: defaultdict[ReplicaID, set[str]] = defaultdict(set)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the replica for a chain, and then all, the least full first: the first may be full."""
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
        """Remember where a chain went."""
        self._inside[replica_id].add(pending_request.metadata.internal_request_id)
        if chain := _chain_of(pending_request):
            self._homes[chain] = replica_id
            self._homes.move_to_end(chain)
            if len(self._homes) > HOMES:
                self._homes.popitem(last=False)

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Note that a replica has one stream less."""
        self._inside[replica_id].discard(internal_request_id)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Take the replicas that there are now."""
        super().update_replicas(replicas)
        for gone in self._inside.keys() - {each.replica_id for each in replicas}:
            del self._inside[gone]

    def _streams(self, replica: RunningReplica) -> int:
        return len(self._inside[replica.replica_id])


def _chain_of(request: PendingRequest | None) -> str:
    return str(request.kwargs.get("chain", "")) if request else ""
