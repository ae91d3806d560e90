from __future__ import annotations

import io
import json
import math
import os
import shutil
import signal
import threading
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import pytest
import torch
from rich.console import Console
from torch.nn import functional
from transformers import TrainerCallback

from redraft.errors import ModelError
from redraft.train import LOG
from redraft.train import loop as module
from redraft.train.batches import IGNORED, Data, Order, one_a_row, padded
from redraft.train.checkpoints import SavedCheckpoint, checkpoints, newest
from redraft.train.loop import Log, Loop, StepCounts, StepProgress
from redraft.train.prepare import Prepared
from tests.cli.verbs import wait_until
from tests.train.tiny import data, lines, llama, loop, prepared
from tests.train.tiny_models import adapted


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(tmp_path_factory.mktemp("sft") / "data")


@pytest.fixture(scope="module")
def unbroken(examples: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sft") / "unbroken"
    assert loop(out, data(examples), save_total_limit=2).run() == 12
    return out


def curve(output: Path) -> list[tuple[float, ...]]:
    return [
        tuple(line[key] for key in ("step", "loss", "grad_norm", "learning_rate")) for line in lines(output)
    ]


class At(TrainerCallback):
    def __init__(self, step: int, do: Callable[[], object], *, after: bool = False) -> None:
        self.step, self.do, self.after = step, do, after

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.after and state.global_step + 1 == self.step:
            self.do()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.after and state.global_step == self.step:
            self.do()


def before_step(made: Loop, step: int, do: Callable[[], object]) -> Loop:
    made.callbacks.append(At(step, do))
    return made


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_line_a_step_says_everything(unbroken: Path, examples: Prepared) -> None:
    said = lines(unbroken)
    assert [line["step"] for line in said] == list(range(1, 13))
    keys = {"step", "epoch", "loss", "grad_norm", "learning_rate", "tokens", "trained_tokens"}
    assert all(line.keys() == keys | {"tokens_per_second", "memory_gb"} for line in said)
    assert said[-1]["loss"] < said[0]["loss"] - 0.5
    first_epoch = [line for line in said if line["epoch"] <= 1]
    assert sum(line["tokens"] for line in first_epoch) == int(examples.lengths.sum())


def test_padding_counts_as_memory_and_not_as_tokens(examples: Prepared, tmp_path: Path) -> None:
    rows = one_a_row(examples.lengths, 64)
    read = Data(examples, rows, Order(len(rows), 4, seed=1), partial(padded, pad=0))
    made = loop(tmp_path / "out", read, max_steps=5)
    made.run()
    assert sum(line["tokens"] for line in lines(tmp_path / "out")) == int(examples.lengths.sum())
    assert made.counts.longest == 4 * int(examples.lengths.max())


def test_nothing_is_pickled(unbroken: Path) -> None:
    assert [folder.step for folder in checkpoints(unbroken)] == [12, 8]
    assert {path.name for path in (unbroken / "checkpoint-12").iterdir()} == {
        "complete.json", "config.json", "generation_config.json", "model.safetensors",
        "optimizer.safetensors", "random-0.safetensors", "trainer_state.json",
    }  # fmt: skip


def test_the_first_step_is_that_of_a_plain_loop(examples: Prepared, unbroken: Path, tmp_path: Path) -> None:
    made = data(examples)
    model = llama(dropout=0)
    summed, count = torch.zeros(()), 0
    for batch in (0, 1):
        for row in next(made.order.batches(0, batch)):
            for example in (made.prepared[int(number)] for number in made.rows[row]):
                ids = torch.tensor(example.ids.astype(int))
                targets = torch.where(torch.tensor(example.trained), ids, IGNORED)[1:]
                logits = model(input_ids=ids[None]).logits[0, :-1]
                summed = summed + functional.cross_entropy(logits, targets, reduction="sum")
                count += int((targets != IGNORED).sum())
    (summed / count).backward()
    norm = torch.stack([each.grad.norm() for each in model.parameters() if each.grad is not None]).norm()
    loop(tmp_path / "out", data(examples), llama(dropout=0), max_steps=1).run()
    (line,) = lines(tmp_path / "out")
    assert line["loss"] == pytest.approx(float(summed.detach() / count), abs=1e-5)
    assert (line["grad_norm"], line["trained_tokens"]) == (pytest.approx(float(norm), rel=1e-4), count)


def test_an_evaluation_is_the_mean_over_trained_tokens(examples: Prepared, tmp_path: Path) -> None:
    made = loop(
        tmp_path, data(examples), eval_data=data(examples, seed=9), eval_strategy="steps", eval_steps=12
    )
    made.run()
    *_, line = lines(tmp_path)
    assert line["step"] == 12
    model, summed, count = made.trained.model.eval(), 0.0, 0
    whole = data(examples, size=99)
    with torch.no_grad():
        for batch in whole.batches(0):
            trained = int((batch["labels"] != IGNORED).sum())
            summed, count = summed + float(model(**batch).loss) * trained, count + trained
    assert line["eval_loss"] == pytest.approx(summed / count, rel=1e-5)


@pytest.mark.parametrize("step", [4, 6])
def test_a_run_that_was_terminated_goes_on_as_if_it_had_not_been(
    examples: Prepared, unbroken: Path, tmp_path: Path, step: int
) -> None:
    made = before_step(loop(tmp_path, data(examples), save_total_limit=2), step, terminate)
    assert (made.run(), made.stopped) == (step, signal.SIGTERM)
    found, _ = newest(tmp_path)
    assert (found and found.step) == step
    assert loop(tmp_path, data(examples), llama(seed=5), save_total_limit=2).run(found) == 12
    assert (curve(tmp_path), weights(tmp_path)) == (curve(unbroken), weights(unbroken))


@pytest.mark.parametrize(("save", "step"), [("steps", 6), ("epoch", 4), ("epoch", 6)])
def test_a_stop_is_not_the_end_of_an_epoch(examples: Prepared, tmp_path: Path, step: int, save: str) -> None:
    def run(out: Path, stop: int = 99) -> list[tuple[int, float]]:
        each = {f"{name}_strategy": "epoch" for name in ("logging", "eval")}
        found, _ = newest(out)
        made = loop(out, data(examples), eval_data=data(examples), save_strategy=save, **each)
        before_step(made, stop, terminate).run(found)
        return [(line["step"], line["eval_loss"]) for line in lines(out) if "eval_loss" in line]

    run(tmp_path / "broken", step)
    assert [each.step for each in checkpoints(tmp_path / "broken")] == sorted({4, step}, reverse=True)
    assert run(tmp_path / "broken") == run(tmp_path / "unbroken")


def test_a_checkpoint_has_a_line_before_it(examples: Prepared, unbroken: Path, tmp_path: Path) -> None:
    made = loop(tmp_path, data(examples), logging_steps=4, save_steps=3)
    made.run()
    once, ends = lines(unbroken), [3, 4, 6, 8, 9, 12]
    assert [line["step"] for line in lines(tmp_path)] == ends
    for line, (first, end) in zip(lines(tmp_path), pairwise([0, *ends]), strict=True):
        assert line["loss"] == pytest.approx(fmean(each["loss"] for each in once[first:end]))
        assert line["tokens"] == sum(each["tokens"] for each in once[first:end])
    assert made.state.log_history[-1]["train_loss"] == pytest.approx(fmean(each["loss"] for each in once))


def weights(output: Path) -> bytes:
    return (output / "checkpoint-12" / "model.safetensors").read_bytes()


def test_an_adapter_can_be_asked_after_training_in_16_bits(examples: Prepared, tmp_path: Path) -> None:
    bare = llama().bfloat16()
    loop(tmp_path, data(examples), adapted(bare), bf16=True, max_steps=1, save_strategy="no").run()
    assert bare.eval()(torch.tensor([[1, 2, 3]])).logits.isfinite().all()


def test_what_a_run_cannot_go_on_from(unbroken: Path, examples: Prepared, tmp_path: Path) -> None:
    loop(tmp_path, data(examples), max_steps=4).run()
    (tmp_path / "checkpoint-4" / "optimizer.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no optimizer\.safetensors") as error:
        loop(tmp_path, data(examples)).run(SavedCheckpoint(tmp_path / "checkpoint-4", 4, ()))
    assert "--model_name_or_path" in str(error.value.hint)


def test_a_run_neither_begins_nor_ends_to_be_shared_on_its_way(
    unbroken: Path, examples: Prepared, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint-12"
    shutil.copytree(unbroken / "checkpoint-12", folder)
    made = loop(tmp_path, data(examples))
    made.trained.accelerator.state.fsdp_plugin = True
    with pytest.raises(ModelError, match="was saved without FSDP, but this run is with FSDP"):
        made.run(SavedCheckpoint(folder, int(folder.name[11:]), ()))
    (folder / "pytorch_model_fsdp.bin").touch()
    made.trained.check_way(folder)
    made = loop(tmp_path, data(examples))
    for goes_on in (made.run, lambda each: made.trained.load_model(each.folder)):
        with pytest.raises(ModelError, match="was saved with FSDP, but this run is without FSDP") as error:
            goes_on(SavedCheckpoint(folder, int(folder.name[11:]), ()))
        assert str(error.value.hint).endswith(f": --output_dir NEW --model_name_or_path {folder}")


def test_a_checkpoint_of_another_model_is_refused(unbroken: Path, examples: Prepared, tmp_path: Path) -> None:
    model = llama()
    model.model.layers[1].self_attn.q_proj.register_parameter("extra", torch.nn.Parameter(torch.ones(1)))
    with pytest.raises(ModelError, match=r"lacks model\.layers\.1\.self_attn\.q_proj\.extra"):
        loop(tmp_path, data(examples), model).run(SavedCheckpoint(unbroken / "checkpoint-12", 12, ()))


@pytest.mark.parametrize("name", ["trainer_state.json", "model.safetensors"])
def test_a_damaged_part_of_a_checkpoint_is_named(
    unbroken: Path, examples: Prepared, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "checkpoint-8"
    shutil.copytree(unbroken / "checkpoint-8", folder)
    (folder / name).write_bytes(b"x" * (folder / name).stat().st_size)
    with pytest.raises(ModelError, match=r"(?s)cannot be read.*Move that checkpoint away"):
        loop(tmp_path, data(examples)).run(SavedCheckpoint(folder, 8, ()))


def spoil(made: Loop) -> None:
    with torch.no_grad():
        made.trained.model.model.norm.weight[0] = torch.nan


def test_a_loss_that_is_no_number_stops_before_the_step(examples: Prepared, tmp_path: Path) -> None:
    made = loop(tmp_path, data(examples))
    weight = made.trained.model.model.norm.weight
    before_step(made, 6, partial(spoil, made))
    with pytest.raises(ModelError, match=r"step 6: the loss .* because an earlier step") as error:
        made.run()
    assert f"records: {made.records(6)[0]}, " in error.value.message
    assert f"newest checkpoint: {tmp_path / 'checkpoint-4'}" in error.value.message
    assert torch.isfinite(weight[1:]).all()  # the optimizer has not made them NaN as well
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5]


def test_a_checkpoint_with_broken_weights_is_blamed_itself(examples: Prepared, tmp_path: Path) -> None:
    made = loop(tmp_path, data(examples), max_steps=8)
    made.callbacks.append(At(4, partial(spoil, made), after=True))
    with pytest.raises(ModelError, match="step 5"):
        made.run()
    found, _ = newest(tmp_path)
    with pytest.raises(ModelError, match=r"step 5: .* because the checkpoint .*checkpoint-4 ") as error:
        loop(tmp_path, data(examples)).run(found)
    assert "before training" not in error.value.message
    assert "in model.norm.weight, 1 of 32 numbers are not finite" in error.value.message
    assert "Move that checkpoint away" in str(error.value.hint)


def gradients(made: Loop, *norms: float) -> None:
    waiting = iter(norms)
    made.trained.accelerator.clip_grad_norm_ = lambda *_: torch.tensor(next(waiting, 1.0))  # type: ignore[method-assign]


def test_with_a_scale_only_gradients_may_be_no_numbers(
    examples: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redraft.train.loop.SEARCH", 3)
    endless = [math.inf] * 3

    def run(name: str, *norms: float) -> int:
        made = loop(tmp_path / name, data(examples), max_steps=8, save_strategy="no")
        made.trained.accelerator.scaler = cast("Any", torch.amp.GradScaler("cpu", enabled=False))
        gradients(made, *norms)
        return made.run()

    assert run("found", *endless, 1.0, *endless) == 8
    with pytest.raises(ModelError, match="step 4: the gradient is not a finite number"):
        run("lost", *endless, math.inf)


def test_records_of_a_step_are_those_that_it_reads(examples: Prepared, tmp_path: Path) -> None:
    made = loop(tmp_path, data(examples))
    epoch = [name for step in range(1, 5) for name in made.records(step)]
    assert sorted(epoch) == sorted(f"tiny/{n}" for n in range(40))
    assert set(made.records(5)) != set(made.records(1))


@pytest.mark.parametrize(("steps", "patience", "stops"), [(60, 3, 32), (9, 20, 7)])
def test_divergence_stops_a_run(
    steps: int, patience: int, stops: int, examples: Prepared, tmp_path: Path
) -> None:
    more: dict[str, Any] = {"max_steps": steps, "lr_scheduler_type": "constant", "save_strategy": "no"}
    made = loop(tmp_path, data(examples), divergence_steps=patience, **more)

    def worsen() -> None:
        for each in made.trained.model.parameters():
            each.data.mul_(-20)

    before_step(made, stops - 2, worsen)
    with pytest.raises(ModelError, match=rf"step {stops}: training diverges\. For 3 steps"):
        made.run()


def test_the_log_is_json_where_a_number_is_not_finite(examples: Prepared, tmp_path: Path) -> None:
    made = loop(tmp_path, data(examples), max_steps=1, save_strategy="no")
    made.trained.accelerator.scaler = cast("Any", torch.amp.GradScaler("cpu", enabled=False))
    gradients(made, math.inf)
    made.run()
    assert '"grad_norm": null' in (tmp_path / LOG).read_text()


def test_tensorboard_gets_the_same_numbers(examples: Prepared, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    loop(tmp_path, data(examples), report_to="tensorboard", max_steps=2, save_strategy="no").run()
    (path,) = tmp_path.rglob("events.out.tfevents.*")
    sent = accumulator.EventAccumulator(str(path)).Reload()
    for name in lines(tmp_path)[0].keys() - {"step"}:
        numbers = {each.step: each.value for each in sent.Scalars(f"train/{name}")}
        assert numbers == pytest.approx({line["step"]: line[name] for line in lines(tmp_path)}), name


# What is logged and shown.


NUMBERS = {"loss": 1.23456, "learning_rate": 2e-5, "tokens_per_second": 480.4, "memory_gb": 1.26}


def screen_of(terminal: bool) -> tuple[io.StringIO, Console]:
    screen = io.StringIO()
    return screen, Console(file=screen, force_terminal=terminal, width=100)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_run_that_goes_on_drops_the_steps_that_it_does_again(tmp_path: Path) -> None:
    text = "".join(json.dumps(line) + "\n" for line in [{"step": n, "loss": n} for n in (1, 2, 2, 3, 4)])
    (tmp_path / LOG).write_text(text + 'garbage\n{"step": "1"}\n{"step": 1, "lo')
    log = Log(tmp_path, quiet=True)
    with log.opened(2):
        log.write(3, 4, {"loss": 1.0})
        read = (tmp_path / LOG).read_text().splitlines()  # what was written is there at once
    assert [json.loads(line)["step"] for line in read] == [1, 2, 2, 3]
    with Log(tmp_path).opened(0):
        assert (tmp_path / LOG).read_text() == ""


def test_a_slow_first_step_is_not_silent_and_its_thread_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", screen := io.StringIO())
    monkeypatch.setattr("redraft.jobs.progress.FIRST_SECONDS", 0.0)
    log, others = Log(tmp_path), set(threading.enumerate())
    log.slow = 0.01
    with log.opened(0):
        wait_until(lambda: " elapsed\n" in screen.getvalue())
    assert others.issuperset(threading.enumerate())
    with log.opened(0):
        log.write(1, 4, NUMBERS)
        wait_until(lambda: others.issuperset(threading.enumerate()))  # an evaluation repeats no figures


def test_counts_begin_anew_with_each_line(clock: list[float]) -> None:
    counts = StepCounts()
    counts.add(100, 60, 40)
    counts.add(50, 20, 50)
    clock[0] += 10
    taken = counts.take()
    assert (taken["tokens"], taken["trained_tokens"], taken["tokens_per_second"]) == (150, 80, 15.0)
    assert 0.01 < taken["memory_gb"] < 1000
    assert (counts.take()["tokens"], counts.longest) == (0, 50)


def test_a_line_shows_the_reward_and_the_kl_of_a_rollout_batch_and_moves_by_itself() -> None:
    (screen, console), now = screen_of(terminal=True), [100.0]
    with StepProgress(console=console, clock=lambda: now[0]) as progress:
        now[0] += 102
        progress.step(1, 4, NUMBERS | {"reward": 0.25, "kl": 1.5})
        assert "step 1 of 4 · 1:42 elapsed · reward 0.250 · KL 1.5 · loss 1.2346" in screen.getvalue()
        now[0] += 9
        progress.step(2, 4, NUMBERS)
        now[0] += 7  # a slow step
        wait_until(lambda: "2 of 4 · 0:11 left · loss 1.2346 · 480 tokens/s · 1.3 GB" in screen.getvalue())


@pytest.mark.parametrize("terminal", [True, False])
def test_an_evaluation_has_a_line_of_its_own(terminal: bool) -> None:
    screen, console = screen_of(terminal)
    progress = StepProgress(console=console)
    progress.step(1, 2, NUMBERS)
    progress.step(1, 2, {"eval_loss": 0.98765})
    progress.step(2, 2, NUMBERS)
    progress.close()
    assert "redraft: step 1 of 2 · eval_loss 0.9877\n" in screen.getvalue()
    assert screen.getvalue().index("eval_loss") < screen.getvalue().index("step 2 of 2 · loss 1.2346")
