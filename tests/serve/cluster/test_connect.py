"""Who is let in and who is refused: addresses, heads that are not there, machines with other versions."""

from __future__ import annotations

import socket
import sys

import pytest

from redraft.errors import MissingExtra, UsageError
from redraft.serve.cluster.connect import (
    Bounds,
    ClusterError,
    check_versions,
    connected,
    is_address,
    versions,
)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        *((text, True) for text in ("local", "auto", "10.0.0.1:6379", "head.example:6379", "[::1]:6379")),
        *((text, False) for text in ("prompts.txt", "s3://bucket/prompts.txt", "-o", "6379", "")),
    ],
)
def test_an_address(text: str, known: bool) -> None:
    assert is_address(text) == known


def test_rays_client_is_refused() -> None:
    with pytest.raises(UsageError, match="sends pickles"), connected("ray://127.0.0.1:10001"):
        pass


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match="--ray needs the extra 'cluster'"), connected():
        pass


def test_a_head_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ClusterError, match=f"no Ray cluster answers at 127.0.0.1:{port}: Connection refused"):
        connected(f"127.0.0.1:{port}").__enter__()


@pytest.mark.parametrize(("name", "other"), [("redraft", "0.0.1"), ("Python", "3.9.2"), ("redraft", None)])
def test_a_machine_with_another_version(name: str, other: str | None) -> None:
    check_versions(versions(), "worker-1")
    said = rf"{name} is {other or 'not installed'} on the machine worker-1, but {versions()[name]} here"
    with pytest.raises(ClusterError, match=said):
        check_versions({**versions(), name: other}, "worker-1")


@pytest.mark.parametrize(
    ("text", "lowest", "bounds"),
    [("8", 1, (8, 8)), ("2-8", 1, (2, 8)), ("1-1", 1, (1, 1)), ("0-4", 0, (0, 4))],
)
def test_bounds(text: str, lowest: int, bounds: tuple[int, int]) -> None:
    assert Bounds.read(text, "--actors", lowest=lowest) == bounds


@pytest.mark.parametrize("text", ["0", "0-2", "8-2", "many", "-3", "1-", "", "9" * 5000])
def test_no_bounds(text: str) -> None:
    with pytest.raises(UsageError, match="--actors is"):
        Bounds.read(text, "--actors")
