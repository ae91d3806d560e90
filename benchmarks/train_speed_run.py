"""Do steps of training: by redraft's loop, or by a trainer with the same settings.

    python benchmarks/train_speed_run.py ours|selfee|trl --model FOLDER --data FILE --work DIR --steps 4

All three have the same examples, tokens and tokens with loss, and the same model, optimizer and precision.
`selfee` works like SelFee's training command: transformers' Trainer on one example a row, padded to the
maximum length, with the loss from all logits in 32 bits. `trl` is TRL's SFTTrainer with packing. The first
step is a warm-up. The tokens of the other steps, without padding, and their seconds are printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator

from redraft.train.load import load_tokenizer, load_trained
from redraft.train.loop import Loop
from redraft.train.options import SftOptions, parse
from redraft.train.prepare import Prepared
from redraft.train.run import choose_method, prepare_all, rows_of, settled
from redraft.train.sft import VERB, with_loss
from redraft.train.trained import training_arguments

SAME = (
    "output_dir", "max_steps", "per_device_train_batch_size", "learning_rate", "lr_scheduler_type", "optim",
    "max_grad_norm", "bf16", "activation_checkpointing", "seed", "use_cpu",
)  # fmt: skip
"""Arguments that TRL's trainer gets with our values, because its defaults are others."""


class Watch(TrainerCallback):
    def __init__(self, model: torch.nn.Module) -> None:
        self.tokens, self.start, self.end = 0, 0.0, 0.0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _module: Any, _args: Any, inputs: dict[str, Any]) -> None:
        mask = inputs.get("attention_mask")
        if self.start:
            self.tokens += int(inputs["input_ids"].numel() if mask is None else mask.sum())

    def on_step_begin(self, _args: Any, state: Any, _control: Any, **_others: Any) -> None:
        if state.global_step == 1:
            self.start = time.perf_counter()

    def on_step_end(self, _args: Any, _state: Any, _control: Any, **_others: Any) -> None:
        self.end = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=["ours", "selfee", "trl"])
    for name in ("--model", "--data", "--work"):
        parser.add_argument(name, required=True)
    for name in ("--steps", "--rows", "--tokens"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--lora", action="store_true")
    asked = parser.parse_args()
    words = {
        "model_name_or_path": asked.model, "data_path": asked.data,
        "output_dir": f"{asked.work}/{asked.side}",
        "max_steps": asked.steps + 1,
        "per_device_train_batch_size": asked.rows,
        "model_max_length": asked.tokens, "training_objective": "full", "lora": asked.lora, "bf16": True,
        "save_strategy": "no",
        "gradient_checkpointing": not asked.lora,
        "quiet": True,
    }  # fmt: skip
    settings = parse(
        [word for name, value in words.items() for word in (f"--{name}", str(value))], SftOptions
    )
    args = training_arguments(settings, lora=asked.lora, say=note)
    tokenizer = load_tokenizer(asked.model, say=note)
    prepared = prepare_all([asked.data], settings, tokenizer, VERB, Path(asked.work, "cache"), say=note)
    own = settled(settings, lora=choose_method(settings, asked.model, say=note), gpu=not args.use_cpu)
    model: Any = load_trained(own, asked.model, tokenizer)
    watch = Watch(model)
    make = {"ours": ours, "selfee": selfee, "trl": trl}[asked.side]
    made = make(settings, args, model, tokenizer, prepared)
    if isinstance(made, Loop):
        made.callbacks.append(watch)
        made.run()
    else:
        made.add_callback(watch)
        made.train()
    print(json.dumps({"tokens": watch.tokens, "seconds": watch.end - watch.start}))


def ours(settings: SftOptions, args: TrainingArguments, model: Any, tokenizer: Any, data: Prepared) -> Loop:
    assert with_loss(model, say=note, packed=settings.packing)
    rows = rows_of(data, settings, args, VERB, pad=None)
    return Loop(model, args, rows, None, tokenizer=tokenizer, quiet=True)


def selfee(
    settings: SftOptions, args: TrainingArguments, model: Any, tokenizer: Any, data: Prepared
) -> Trainer:
    length = settings.model_max_length
    rows = [padded(example, length, tokenizer.pad_token_id) for example in examples(data)]
    return Trainer(model, args, default_data_collator, rows)


def padded(example: dict[str, list[int]], length: int, pad: int) -> dict[str, list[int]]:
    spare = length - len(example["input_ids"])
    return {
        "input_ids": example["input_ids"] + [pad] * spare,
        "labels": example["labels"] + [-100] * spare,
        "attention_mask": [1] * len(example["input_ids"]) + [0] * spare,
    }


def trl(settings: SftOptions, args: TrainingArguments, model: Any, tokenizer: Any, data: Prepared) -> Trainer:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(
        **{name: getattr(args, name) for name in SAME},
        packing=True,
        loss_type="chunked_nll",
        max_length=settings.model_max_length,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    rows = Dataset.from_list(examples(data))
    return SFTTrainer(model, config, train_dataset=rows, processing_class=tokenizer)


def examples(data: Prepared) -> list[dict[str, list[int]]]:
    made = []
    for ids, trained in (data[number] for number in range(len(data))):
        labels = [each if learnt else -100 for each, learnt in zip(ids.tolist(), trained, strict=True)]
        made.append({"input_ids": ids.tolist(), "labels": labels})
    return made


def note(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
