"""TRL, on a model of some thousand weights by chance."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from tried import Replies, main, tries
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

WORDS = ["<pad>", "<eos>", "<unk>", *["rain", "is", "wet", "and", "cold", "snow", "white", "say"]]
SMALL = {
    "vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None,
}  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def run(trainer: Any, config: Any, rows: list[dict[str, Any]], model: Any = None, **more: Any) -> Any:
    with TemporaryDirectory() as folder:
        args = config(
            output_dir=folder, max_steps=2, per_device_train_batch_size=2, report_to=[], use_cpu=True, bf16=False,
            gradient_checkpointing=False, save_strategy="no", **more.pop("args", {}),
        )  # fmt: skip
        made = trainer(model or LlamaForCausalLM(LlamaConfig(**SMALL)), args=args, train_dataset=Dataset.from_list(rows),
                       processing_class=tokenizer(), **more)  # fmt: skip
        made.train()
        assert made.state.global_step == 2
        return made


PAIRS = [{"prompt": "say rain", "chosen": "rain is wet", "rejected": "snow is white"}] * 4


@tries("supervised fine-tuning")
def _(server: Replies) -> None:
    from trl import SFTConfig, SFTTrainer

    run(SFTTrainer, SFTConfig, [{"text": "rain is wet"}] * 4)


@tries("DPO")
def _(server: Replies) -> None:
    from trl import DPOConfig, DPOTrainer

    with TemporaryDirectory() as folder:  # it loads the reference from where the model came from
        LlamaForCausalLM(LlamaConfig(**SMALL)).save_pretrained(folder)
        run(DPOTrainer, DPOConfig, PAIRS, folder)


@tries("a reward model")
def _(server: Replies) -> None:
    from trl import RewardConfig, RewardTrainer

    run(
        RewardTrainer, RewardConfig, PAIRS, LlamaForSequenceClassification(LlamaConfig(**SMALL, num_labels=1))
    )


@tries("PPO, RLOO or GRPO")
@tries("a function of yours as a check")
def _(server: Replies) -> str:
    from trl import GRPOConfig, GRPOTrainer

    def short(completions: list[str], **_: Any) -> list[float]:
        return [-float(len(text.split())) for text in completions]

    args = {"num_generations": 2, "max_completion_length": 4}
    run(GRPOTrainer, GRPOConfig, [{"prompt": "say rain"}] * 4, args=args, reward_funcs=short)
    return "GRPO with a function as its reward"


@tries("a command for the terminal")
def _(server: Replies) -> str:
    import subprocess
    import sys

    said = subprocess.run(
        [str(Path(sys.executable).parent / "trl"), "--help"], capture_output=True, text=True
    )
    assert "grpo" in said.stdout
    return "to train and to serve a model to its trainers"


@tries("goes on after kill -9 without paying twice")
def _(server: Replies) -> str:
    from transformers import Trainer

    assert Trainer.train.__doc__
    return "training goes on from a checkpoint; not tried with a kill"


LACKS = {
    "a model judges an answer by a sentence": "",
    "another model criticises": "",
    "the next text is chosen by what failed": "",
    "form is mended without the model": "",
    "the invalid part is filtered out": "",
    "a check steers the model word by word": "",
    "a conversation of several turns": "as data to train on, not tried",
    "pictures in a prompt": "as data to train on, not tried",
    "partial objects while they are written": "",
    "a text while it is written": "",
    "searches such as trees or majority votes": "",
    "prompts are optimised on examples": "",
    "a budget of tokens for one answer": "",
    "a call is ended from outside and keeps what it has": "",
    "every draft is kept, with what was said of it": "",
    "replies are cached in a file": "",
    "a file of prompts becomes a file of answers": "",
    "the API's answers are checked and revised": "",
    "keys for users": "",
    "tools for agents by MCP": "",
    "scores with intervals": "",
    "a judge compares two models, in both orders": "judges of pairs in `trl.experimental`, not tried",
    "a ranking of models (Elo, Bradley–Terry)": "",
    "conversations are cleaned and deduplicated": "",
    "deltas of weights, GGUF files": "",
    "an object of a pydantic type": "",
    "the model criticises itself, then revises": "",
    "a failed answer goes back with what is wrong": "",
    "training on chains of answer, criticism and revision": "as any text; no loss by step",
    "an API like OpenAI's": "",
    "a grammar or regular expression of yours steers": "",
    "the best answer is kept if none passes": "",
    "tools are called, and their results go back": "in rollouts of GRPO, not tried",
    "a whole system by one recipe, resumed": "a recipe of one training",
}

if __name__ == "__main__":
    main(LACKS)
