from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from redraft.errors import ModelError, OutputError, UsageError
from redraft.train import LOG, checkpoints, prepare, run
from redraft.train.batches import Data
from redraft.train.checkpoints import MARKER
from redraft.train.options import SftOptions, parse
from redraft.train.run import Ready, alone, get_ready
from redraft.train.sft import with_loss
from redraft.train.trained import Trained
from tests.cli.verbs import files_up_to, write
from tests.train.tiny import chains, lines
from tests.train.tiny_models import EXPERTS, tiny


@pytest.fixture
def here(here: Path) -> Path:
    chains(here / "chains.jsonl")
    return here


USUAL = "--data_path chains.jsonl --output_dir out --model_max_length 128 --max_steps 3 --bf16 False --quiet"


def ready(model: str, *words: str, said: list[str] | None = None, usual: str = USUAL) -> Ready:
    own = parse([*words, *usual.split()], SftOptions)
    return get_ready(own, model, Path("cache"), say=(said if said is not None else []).append)


def losses(output: str = "out") -> list[float]:
    return [line["loss"] for line in lines(Path(output))]


def test_a_model_comes_out_that_transformers_loads(model: str, here: Path) -> None:
    made = ready(model, "--lora", "False")
    assert made.train() == made.loop.steps == 3
    trained = AutoModelForCausalLM.from_pretrained("out")
    assert trained.config.redraft_format == "selfee-1"
    assert AutoTokenizer.from_pretrained("out").eos_token_id == trained.config.eos_token_id
    names = {path.name for path in Path("out").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", LOG, "checkpoint-3"} <= names
    assert not any(name.startswith(".saving") or name.endswith((".bin", ".pt", ".pth")) for name in names)


def test_an_adapter_comes_out_that_names_its_base(model: str, here: Path) -> None:
    said: list[str] = []
    made = ready(model, "--model_name_or_path", "default", said=said)
    assert "training an adapter, because no GPU is used (--lora False trains all weights)." in said
    made.train()
    config = json.loads(Path("out/adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["redraft_format"]) == ("default", "selfee-1")
    assert Path("out/adapter_model.safetensors").is_file()
    assert not Path("out/README.md").exists()
    assert not Path("out/config.json").exists()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_token_that_was_added_is_saved_with_the_adapter(model: str, here: Path) -> None:
    words = ["--lora", "True", "--pad_token", "[PAD]", "--save_steps", "2"]
    ready(model, *words).train()
    rows = len(AutoTokenizer.from_pretrained("out"))
    for folder in ("out", "out/checkpoint-2"):
        saved = load_file(Path(folder, "adapter_model.safetensors"))
        assert {len(each) for name, each in saved.items() if "lora_" not in name} == {rows}
    Path("out/checkpoint-3", MARKER).unlink()
    again = ready(model, *words)
    assert again.checkpoint
    assert again.checkpoint.step == 2
    expected = losses()
    again.train()
    assert losses() == expected


def test_a_model_of_answers_does_not_say_that_it_revises(model: str, here: Path) -> None:
    made = ready(model, "--lora", "False", "--training_objective", "answer")
    assert not hasattr(made.loop.trained.model.config, "redraft_format")


def test_what_is_about_to_be_done_is_said(model: str, here: Path) -> None:
    data, plan = ready(model, "--lora", "False", "--per_device_train_batch_size", "2").lines()
    assert data.startswith("24 records read, 24 to train on: ")
    assert plan.startswith("3 steps of 2 rows (24 records packed into ")
    assert plan.endswith("learning rate 2e-05, all weights in float32")
    write("chains.jsonl", [{"instruction": "a", "output": "b"}] * 24)
    for more, told in ((), 1), (("--training_objective", "answer"), 0):
        lines = ready(model, "--packing", "False", *more).lines()
        assert sum("24 without feedback (for a model" in line for line in lines) == told


def test_data_that_packed_is_smaller_than_a_step_is_not_packed(model: str, here: Path) -> None:
    said: list[str] = []
    usual = USUAL.replace("128", "512 --gradient_accumulation_steps 6")
    made = ready(model, "--lora", "False", said=said, usual=usual)
    assert (len(made.data.rows), made.config["packing"]) == (24, False)
    assert any("would not fill a step of 24 rows." in line for line in said)


def test_the_record_has_all_that_decides_the_weights(model: str, here: Path) -> None:
    first = ready(model, "--lora", "False").config
    assert json.loads(json.dumps(first))["rows_a_step"] == 4
    assert (
        ready(model, "--lora", "False", "--workers", "2", "--save_steps", "1", "--gguf", "x.gguf").config
        == first
    )
    for flag in ("--seed 1", "--learning_rate 1", "--packing False", "--gradient_accumulation_steps 2"):
        assert ready(model, "--lora", "False", *flag.split()).config != first
    chains(Path("chains.jsonl"), 23)
    assert ready(model, "--lora", "False").config != first


def test_what_the_machine_chose_can_be_said(model: str, here: Path) -> None:
    chosen = ready(model).config
    assert chosen["dtype"] in ("float32", "bfloat16")
    assert chosen["lora"] is True
    assert ready(model, "--lora", "True", "--dtype", chosen["dtype"]).config == chosen


def test_steps_are_those_that_trainer_takes(model: str, here: Path) -> None:
    usual = USUAL.replace("--max_steps 3", "--num_train_epochs 1.5 --gradient_accumulation_steps 2")
    made = ready(model, "--lora", "False", "--packing", "False", usual=usual)
    assert made.train() == made.loop.steps == 5  # 24 records are 3 steps of 8


def test_an_evaluation_needs_data(model: str, here: Path) -> None:
    with pytest.raises(UsageError, match="--eval_strategy steps needs data") as error:
        ready(model, "--eval_strategy", "steps")
    assert error.value.hint == "--eval_data_path FILE, or --eval_strategy no"
    said: list[str] = []
    assert ready(model, "--eval_data_path", "chains.jsonl", said=said).loop.eval_data is None
    assert any(line.startswith("--eval_data_path is not used. To evaluate, add --eval_st") for line in said)


def test_an_evaluation_takes_batches_of_its_own_size(model: str, here: Path) -> None:
    words = ["--eval_strategy", "steps", "--eval_data_path", "chains.jsonl", "--no-packing"]
    made = ready(model, *words, "--per_device_eval_batch_size", "7").loop
    assert isinstance(made.eval_data, Data)
    assert [len(rows) for rows in made.eval_data.order.batches(0)] == [7, 7, 7, 3]
    assert made.evaluate() > 0
    usual = ready(model, *words).loop
    assert usual.eval_data is not None
    assert len(next(usual.eval_data.order.batches(0))) == usual.args.train_batch_size == 4


def test_memory_that_runs_out_is_told(model: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ready(model, "--lora", "False")

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(made.loop.trained.accelerator, "backward", fail)
    with pytest.raises(ModelError, match="out of memory with batches of up to") as error:
        made.train()
    assert "--per_device_train_batch_size 2 --gradient_accumulation_steps 2" in str(error.value.hint)


@pytest.mark.parametrize(("size", "words"), [(1 << 15, ["--lora", "False"]), (20_000, ["--lora_r", "1"])])
def test_a_file_that_may_not_grow_is_a_message(model: str, here: Path, size: int, words: list[str]) -> None:
    made = ready(model, *words)
    with files_up_to(size), pytest.raises(OutputError, match=r"(?s)cannot be written.*free some space"):
        made.train()
    made.loop.trained.tokenizer = object()
    with pytest.raises(AttributeError, match="save_pretrained"):
        run.save(made.loop)


def test_two_runs_do_not_write_one_output(model: str, here: Path) -> None:
    made, other = ready(model, "--lora", "False"), ready(model, "--lora", "False")
    begun: list[int] = []
    with alone(Path("out")), pytest.raises(OutputError, match="another run is writing to out"):
        made.train(lambda: begun.append(1))
    assert begun == []
    assert other.train(lambda: begun.append(2)) == 3
    assert begun == [2]


def test_what_is_begun_anew_is_removed_before_the_new_settings_are_recorded(model: str, here: Path) -> None:
    """If it is killed in between, no old weights may lie beside the new ones."""
    made = ready(model, "--lora", "False", "--overwrite_output_dir")
    Path("out/checkpoint-1").mkdir()
    Path("out/config.json").touch()

    def begin() -> None:
        assert list(Path("out").iterdir()) == []
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.train(begin)


def test_a_log_without_a_line_is_no_earlier_run(model: str, here: Path) -> None:
    made = ready(model, "--lora", "False")
    Path("out", LOG).touch()
    assert not made.replaces
    Path("out", LOG).write_text("{}")
    assert made.replaces


def test_nothing_is_left_of_an_earlier_result(model: str, here: Path) -> None:
    run.save(ready(model, "--lora", "True").loop)
    assert Path("out/adapter_model.safetensors").is_file()
    run.save(ready(model, "--lora", "False").loop)
    assert not list(Path("out").glob("adapter_*"))
    assert Path("out/config.json").is_file()
    run.save(ready(model, "--lora", "True").loop)
    assert not list(Path("out").glob("model*"))
    assert not Path("out/config.json").exists()


def test_a_finished_checkpoint_is_gone_on_from(model: str, here: Path) -> None:
    usual = USUAL + " --lr_scheduler_type constant --lora False"
    ready(model, usual=usual).train()
    whole = losses()
    usual = usual.replace("dir out", "dir two")
    ready(model, usual=usual.replace("--max_steps 3", "--max_steps 2")).train()
    made = ready(model, usual=usual)
    assert made.lines()[-1] == "the run resumes from two/checkpoint-2"
    made.train()
    assert losses("two") == whole


def test_a_broken_checkpoint_is_named_and_the_one_before_taken(
    model: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(model, "--lora", "False", "--save_steps", "1").train()
    Path("out/checkpoint-3/optimizer.safetensors").unlink()
    said: list[str] = []
    made = ready(model, "--lora", "False", said=said)
    assert made.checkpoint
    assert made.checkpoint.step == 2
    assert said[0].startswith("out/checkpoint-3 is skipped: optimizer.safetensors is missing")
    (made.checkpoint.folder / MARKER).unlink()
    with pytest.raises(ModelError, match="cannot resume from"):
        ready(model, "--lora", "False")
    again = ready(model, "--lora", "False", "--overwrite_output_dir")
    assert again.checkpoint is None
    assert Path("out/checkpoint-3").exists()  # until the run begins
    monkeypatch.setattr(again.loop, "run", lambda _: 0)
    monkeypatch.setattr(run, "save", lambda _: None)
    again.train()
    assert not Path("out/checkpoint-3").exists()


def test_a_shared_run_killed_while_it_saves_its_result_gets_it_from_the_checkpoint(
    model: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(model, "--lora", "False").train()
    files = {path.name: path.read_bytes() for path in Path("out").iterdir() if path.is_file()}
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        Path("out", name).unlink()
    again = ready(model, "--lora", "False")
    monkeypatch.setattr(Trained, "fsdp", property(lambda _: True))
    assert again.train() == 3
    assert {path.name: path.read_bytes() for path in Path("out").iterdir() if path.is_file()} == files


def test_a_checkpoint_may_be_a_link(here: Path) -> None:
    Path("disk/checkpoint-1").mkdir(parents=True)
    Path("disk/checkpoint-1", MARKER).write_text('{"files": {}}')
    Path("out").mkdir()
    Path("out/checkpoint-1").symlink_to(here / "disk/checkpoint-1")
    found, _ = checkpoints.newest(Path("out"))
    assert found and found.step == 1  # noqa: PT018


def test_an_output_that_is_a_file(model: str, here: Path) -> None:
    Path("out").write_text("")
    with pytest.raises(OutputError, match="out cannot be created"):
        ready(model, "--lora", "False")


# Shipped recipes, scaled down: 10 steps in 32 bits, the learning rate raised so that the curve has a shape.

SCALED = (
    "--data_path {data} --output_dir out --max_steps 10 --per_device_train_batch_size 2 --bf16 False "
    "--gradient_accumulation_steps 2 --learning_rate 5e-3 --model_max_length 160 --save_strategy no --quiet "
    "--dtype float32 --logging_steps 1"
)


def alpaca(path: Path) -> None:
    records = [{"instruction": f"Add {n} and {n}.", "input": "", "output": str(2 * n)} for n in range(24)]
    path.write_text(json.dumps(records))


def vicuna(path: Path) -> None:
    talks = [
        [("human", f"Add {n} and {n}."), ("gpt", str(2 * n)), ("human", "And 1."), ("gpt", str(2 * n + 1))]
        for n in range(24)
    ]
    records = [
        {"id": str(n), "conversations": [{"from": who, "value": text} for who, text in talk]}
        for n, talk in enumerate(talks)
    ]
    path.write_text(json.dumps(records))


GOLDEN: dict[str, tuple[Any, list[float]]] = {
    "selfee": (
        chains,
        [6.29449, 6.29426, 6.06751, 5.88665, 5.70006, 5.53643, 5.40593, 5.31515, 5.27921, 5.25413],
    ),
    "alpaca": (
        alpaca,
        [6.30847, 6.28904, 6.11463, 5.90847, 5.77549, 5.58626, 5.43729, 5.32004, 5.31999, 5.32966],
    ),
    "vicuna": (
        vicuna,
        [6.22082, 6.2365, 6.08364, 5.84847, 5.6574, 5.50786, 5.39091, 5.28262, 5.23127, 5.25147],
    ),
    "self": (chains, [6.2932, 6.29157, 6.25747, 6.19469, 6.14247, 6.13782, 6.1357, 6.12818, 6.1349, 6.12552]),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_losses(model: str, here: Path, name: str) -> None:
    make, golden = GOLDEN[name]
    data = "chains.jsonl" if make is chains else "data.json"
    make(here / data)
    ready(model, name, usual=SCALED.format(data=data)).train()
    assert losses() == pytest.approx(golden, rel=1e-3)


def test_other_processes_say_nothing_twice(model: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    said: list[str] = []
    monkeypatch.setattr(prepare, "SECONDS", 0)
    ready(model, "--tf32", "True", said=said)
    assert said == ["24 records tokenised so far."]  # by the one that makes them


@pytest.mark.parametrize("asked", [False, True])
def test_a_loss_of_experts_that_is_left_out_is_said(asked: bool) -> None:
    said: list[str] = []
    assert with_loss(tiny("Qwen3Moe", output_router_logits=asked, **EXPERTS), say=said.append, packed=True)
    told = "output_router_logits is ignored: the load-balancing loss of experts is left out."
    assert said == [told] * asked


@pytest.mark.parametrize("packing", [False, True])
def test_without_packing_a_model_that_cannot_join_has_padded_batches(packing: bool) -> None:
    model = tiny()
    model._supports_flash_attn = False  # what transformers says of it
    said: list[str] = []
    with pytest.raises(ModelError, match="its own attention") if packing else nullcontext():
        assert not with_loss(model, say=said.append, packed=packing)
    assert len(said) == (not packing)
    assert all(line.startswith("batches are padded: ") for line in said)
    ids = torch.tensor([[1, 2, 3]])
    assert model(input_ids=ids, labels=ids, num_items_in_batch=torch.tensor(1)).loss > 0
