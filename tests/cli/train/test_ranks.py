"""Two processes by torchrun equal one: in loss and gradients, and each resumes the other's run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from redraft.jobs.signals import AGAIN
from tests.cli import verbs
from tests.train.tiny import chains, curve, model_folder

pytestmark = pytest.mark.slow

SETTINGS = (
    "--model_name_or_path model --data_path chains.jsonl --model_max_length 128 --cache_dir cache "
    "--lora False --bf16 False --learning_rate 1e-3 --max_steps 6 --save_steps 2 "
    "--gradient_accumulation_steps 2 --output_dir"
)
PORT = 20000 + os.getpid() % 20000
TORCHRUN = [
    *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"),
    *("--master_addr=127.0.0.1", f"--master_port={PORT}"),
]
"""The address is given, so that nothing is looked up."""

PATIENCE = 600  # seconds. Two processes that import torch on a busy machine take minutes.


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    model_folder(Path("model"))
    chains(Path("chains.jsonl"), 40)


def one(output: str, *words: str) -> subprocess.CompletedProcess[str]:
    return ended([sys.executable, "-m", "redraft", "train", "sft", *SETTINGS.split(), output, *words])


def ended(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def two(output: str, *words: str) -> list[str]:
    return [*TORCHRUN, "-m", "redraft", "train", "sft", *SETTINGS.split(), output, *words]


def test_two_processes_train_as_one_does() -> None:
    assert one("one", "--per_device_train_batch_size", "2").returncode == 0
    done = ended(two("two", "--per_device_train_batch_size", "1", "--fsdp", "full_shard auto_wrap"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("--fsdp is ignored, so each of the 2 processes loads the whole model") == 1
    assert done.stderr.count("records read") == 1
    for each, other in zip(curve(Path("one")), curve(Path("two")), strict=True):
        assert each == pytest.approx(other, rel=1e-5)


def test_sigterm_stops_both_at_one_step_and_one_goes_on() -> None:
    words = "--per_device_train_batch_size", "1", "--max_steps", "400"
    with subprocess.Popen(two("two", *words), stderr=subprocess.DEVNULL) as job:
        until_there(Path("two/checkpoint-4/complete.json"), [job])
        job.send_signal(signal.SIGTERM)
    newest = max(int(path.name.split("-")[1]) for path in Path("two").glob("checkpoint-*"))
    assert 4 <= newest < 400
    assert len(curve(Path("two"))) == newest
    on = one("two", "--per_device_train_batch_size", "2", "--max_steps", "400", "--save_strategy", "no")
    assert f"resumes from two/checkpoint-{newest}" in on.stderr
    assert on.returncode == 0, on.stderr
    assert len(curve(Path("two"))) == 400


def test_a_signal_to_one_process_stops_both_in_the_same_way() -> None:
    begun = [start(rank, "--per_device_train_batch_size", "1", "--max_steps", "400") for rank in (0, 1)]
    try:
        until_there(Path("apart/checkpoint-2/complete.json"), begun)
        begun[1].send_signal(signal.SIGTERM)
        said = [job.communicate(timeout=PATIENCE)[1] for job in begun]
    finally:
        for job in begun:
            job.kill()
            job.communicate()
    assert [job.returncode for job in begun] == [AGAIN, AGAIN], "\n".join(said)
    assert "To resume, type the same command again." in said[0]
    assert not Path("apart/config.json").exists()


def start(rank: int, *words: str) -> subprocess.Popen[str]:
    """One of two processes, started without torchrun, which would end both if one ends."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": PORT}
    place = {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in told.items()}}
    return verbs.start("train", "sft", *SETTINGS.split(), "apart", *words, env={**os.environ, **place})


def until_there(path: Path, jobs: Iterable[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.is_file():
        assert all(job.poll() is None for job in jobs), [job.stderr and job.stderr.read() for job in jobs]
        assert time.monotonic() < deadline
        time.sleep(0.05)
