"""Fine-tune a causal language model on chains, rendered as texts and packed into rows."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from peft import PeftModel
from transformers import PreTrainedModel

from redraft.chain.encoder import Encoder
from redraft.chain.selfee import NATIVE_FORMAT
from redraft.errors import OutputError, UsageError
from redraft.train.batches import Rows, one_a_row, pack
from redraft.train.load import Tokenizer, go_on_from, load_trained
from redraft.train.loop import Loop
from redraft.train.loss import fuse
from redraft.train.options import SftOptions
from redraft.train.prepare import Ints
from redraft.train.processes import Say
from redraft.train.verb import Made, Verb, bare_of, can_join, what_follows
from redraft.weights.checkpoint import read_json
from redraft.weights.gguf.families import sizes_from_config
from redraft.weights.lora.gguf import lora_gguf
from redraft.weights.output import Run
from redraft.weights.replace import MANIFEST, refuse_existing


class Sft(Verb[SftOptions]):
    """The verb `redraft train sft`."""

    row = "row"
    marked = ("with loss", "without loss")

    def check(self, own: SftOptions, model: str) -> None:
        """Raise `RedraftError` if the `--gguf` file cannot be written, or GGUF does not support the model."""
        if own.gguf:
            _check_gguf(own.gguf, model, Path(own.output_dir or ""))

    def encoder(self, own: SftOptions, tokenizer: Tokenizer) -> Encoder:
        """Return the encoder of chains."""
        first = own.answer == "first"
        return Encoder(tokenizer, own.format, own.training_objective, own.model_max_length, first=first)

    def rows(self, lengths: Ints, own: SftOptions) -> Rows:
        """Put as many examples as fit into each row or, without packing, one example."""
        if own.packing:
            return pack(lengths, own.model_max_length, own.seed)
        return one_a_row(lengths, own.model_max_length)

    def model(self, own: SftOptions, ref: str, tokenizer: Tokenizer, *, say: Say) -> Made:
        """Load a model, and set up its loss."""
        native = own.format == "selfee" and own.training_objective != "answer"
        model = load_trained(own, ref, tokenizer, note={"redraft_format": NATIVE_FORMAT} if native else {})
        if own.lora_from and isinstance(model, PeftModel):
            go_on_from(model, Path(own.lora_from))
        return model, with_loss(model, say=say, packed=own.packing)

    def finish(self, own: SftOptions, loop: Loop, base: str, *, command: str, say: Say, warn: Say) -> None:  # noqa: ARG002
        """Write the `--gguf` file, with the adapter or the whole model."""
        if not own.gguf or not loop.args.should_save:
            return
        target, run = Path(own.gguf), Run(force=True, command=command, warn=warn)
        if own.lora:
            lora_gguf(loop.folder, target, run, base=_base_folder(base), f16=True)
        else:
            from redraft.weights.gguf.from_folder import export_gguf

            export_gguf(loop.folder, target, run)

    def following(self, own: SftOptions, base: str) -> str:
        """Return a line with the next command for the trained model."""
        return what_follows(own, base, own.gguf)


VERB = Sft()


def with_loss(model: PreTrainedModel | PeftModel, *, say: Say, packed: bool) -> bool:
    """Set up a model's loss and attention. Return whether several examples may be joined in one row."""
    bare = bare_of(model)
    if getattr(bare.config, "output_router_logits", False):
        say("output_router_logits is ignored: the load-balancing loss of experts is left out.")
    fuse(bare)
    return can_join(bare, say=say, needed=packed)


def _check_gguf(gguf: str, model: str, output: Path) -> None:
    target = Path(gguf)
    if not gguf.lower().endswith(".gguf"):
        raise UsageError(f"--gguf {gguf} does not end in .gguf.", hint=f"--gguf {gguf.rstrip('/')}.gguf")
    folder = next(each for each in target.absolute().parents if each.exists())
    if target.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(f"--gguf {target} cannot be written: it is a folder, or {folder} is not writable.")
    hint = "Move it away, or name another --gguf FILE."
    try:
        refuse_existing(target, force=True)
    except OutputError as error:
        raise OutputError(f"--gguf: {error.message}", hint=hint) from None
    made = read_json(target.with_name(f"{target.name}.{MANIFEST}")).get("inputs", {})
    if target.exists() and output.absolute() not in {Path(each["path"]).absolute() for each in made.values()}:
        raise OutputError(f"--gguf: {target} exists, and is not from {output}.", hint=hint)
    if config := read_json(Path(model) / "config.json"):  # a model on the hub has no config here yet
        sizes_from_config(config)


def _base_folder(base: str) -> Path:
    if Path(base).exists():
        return Path(base)
    found = try_to_load_from_cache(base, "config.json")
    return Path(found).parent if isinstance(found, str) else Path(base)
