"""The flags of models on the machines of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.shell import tell
from redraft.errors import UsageError

if TYPE_CHECKING:
    from redraft.serve.start import Nodes


def _nodes(text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Many machines", **more)


@dataclass(frozen=True)
class NodeFlags:
    """Of a Ray cluster."""

    ray: Annotated[
        str | None,
        _nodes("Run the models on Ray: HOST:PORT, auto, or none for this machine.", metavar="[ADDRESS]"),
    ] = None
    replicas: Annotated[str, _nodes("Replicas of each model: 2, or 0-4.", metavar="LEAST-MOST")] = "1"
    app: Annotated[str, _nodes("The name of this server on the cluster.", metavar="NAME")] = "redraft"

    @contextmanager
    def entered(self) -> Iterator[Nodes | None]:
        """Connect to the cluster, if one is named."""
        if self.ray is None:
            if self != NodeFlags():
                raise UsageError("--replicas and --app are for --ray.", hint="Add --ray.")
            yield None
            return
        from redraft.serve.cluster.bounds import Bounds
        from redraft.serve.cluster.connect import connected

        replicas = Bounds.read(self.replicas, "--replicas", lowest=0)
        with connected(self.ray) as ray:
            from redraft.serve.cluster.serving import Applications

            yield Applications(ray, self.app, replicas, tell)
