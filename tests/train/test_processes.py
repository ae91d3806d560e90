from __future__ import annotations

import pytest
from torch import distributed

from redraft.errors import ModelError, UsageError
from redraft.train.processes import check_same_start, parting


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    waited: list[str] = []
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    monkeypatch.setattr(distributed, "barrier", lambda: waited.append("for all"))
    return waited


def test_processes_part_when_all_are_done(group: list[str]) -> None:
    with parting():
        assert group == []
    assert group == ["for all"]
    assert not distributed.is_initialized()


def test_a_process_that_failed_waits_for_nobody(group: list[str]) -> None:
    with pytest.raises(UsageError), parting():
        raise UsageError("no")
    assert group == []
    assert not distributed.is_initialized()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(
            "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:544] Connection closed by peer\n…"
        ),
        distributed.DistBackendError("NCCL error: remote process exited\n…"),
    ],
)
def test_that_another_process_is_gone_is_a_message(group: list[str], error: RuntimeError) -> None:
    with pytest.raises(ModelError, match=r"cannot reach each other \(.*(peer|exited)\)\."), parting():
        raise error
    with pytest.raises(RuntimeError, match="a fault"), parting():
        raise RuntimeError("a fault")


def test_processes_that_begin_with_different_things_are_refused() -> None:
    check_same_start([(4, "ab", 9), (4, "ab", 9)])
    with pytest.raises(UsageError, match="process 1 at step 2, 1 row, hash ab"):
        check_same_start([(4, "ab", 9), (2, "ab", 1)])
