"""Load a model and its tokenizer, add an adapter, and save weights. Untrainable models are refused.

This module raises errors for three faults that transformers accepts: missing weights (transformers would use
random values), a tokenizer without an end-of-text token, and the tokenizer of another model. Code in a
model's folder is never run, and pickled weights are not read.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from peft.tuners.lora import LoraLayer
from torch import nn

from redraft.engines.hf.folders import local_folder
from redraft.engines.hf.load import check_tokenizer, computes_in_bfloat16, loading, quiet
from redraft.errors import ModelError, UsageError
from redraft.jobs.files import check_model_links
from redraft.train.options import RunOptions
from redraft.train.processes import Say
from redraft.weights.checkpoint import find_files, open_checkpoint
from redraft.weights.folder import refuse_delta
from redraft.weights.gguf.families import sizes_from_config
from redraft.weights.header import by
from redraft.weights.lora.adapter import read_config
from redraft.weights.lora.gguf import lora_weights

Tokenizer = transformers.PreTrainedTokenizerBase

_SHOWN = 12  # maximum files named in a message


def model_folder(ref: str, check: Callable[[Path], object]) -> Path | None:
    """Return a model's folder after calling `check(folder)`, or None for a model on the hub."""
    if path := local_folder(ref):
        check_model_links(path)
        check(path)
    return path


def contents(folder: Path) -> str:
    """List the contents of a folder, for error messages about missing files."""
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"the folder has: {', '.join(names[:_SHOWN])}{more}" if names else "the folder is empty"


def check_weights(folder: Path) -> None:
    """Raise `ModelError` if a folder's weights cannot be opened or are a delta."""
    check_config(folder)
    try:
        hint = f"Apply it first: redraft weights apply BASE {folder} -o FOLDER"
        refuse_delta(open_checkpoint(folder), hint=hint)
    except UsageError as error:
        hint = f"Convert it first: redraft weights convert {folder} -o FOLDER --allow-pickle"
        raise ModelError(error.message, hint=hint) from None


def check_config(folder: Path) -> None:
    """Raise `ModelError` if a folder has no config.json, or contains an adapter."""
    if (folder / "adapter_config.json").is_file():
        hint = f"Merge it into its base first: redraft weights merge-lora BASE {folder} -o FOLDER"
        raise ModelError(f"{folder} contains an adapter, not a model.", hint=hint)
    if not (folder / "config.json").is_file():
        files = sorted(folder.glob("*.gguf"))
        hint = f"--model_name_or_path {files[0]}" if files else "Give a folder that contains config.json."
        raise ModelError(f"{folder} is not a model: it has no config.json ({contents(folder)}).", hint=hint)


def save_weights(model: Any, folder: Path, weights: Any = None) -> None:
    """Save a model or an adapter in the format that `from_pretrained` loads."""
    model.save_pretrained(folder, state_dict=weights)
    (folder / "README.md").unlink(missing_ok=True)  # peft's card is an empty template
    mode = next(folder.glob("*config.json")).stat().st_mode
    for path in folder.glob("*.safetensors"):
        if path.stat().st_mode != mode:  # some file systems have one mode for all files
            path.chmod(mode)  # safetensors 0.8 lets only this user read them


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_PADS = ("<pad>", "[PAD]", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>", "<|endoftext|>")
"""Tokens to pad with, in order of preference: common padding tokens, then tokens that models do not use."""

_HEADS = ("score.weight", "score.bias")  # the head of a reward model, which a language model lacks


def load_tokenizer(ref: str, *, pad_token: str | None = None, apart: bool = False, say: Say) -> Tokenizer:
    """Load a tokenizer with an end-of-text and a padding token.

    A tokenizer without a padding token gets `pad_token`, by default a token of the vocabulary. With `apart`,
    the padding token is not the end-of-text token.
    """
    folder = model_folder(ref, check_tokenizer)
    with _loading(ref, "tokenizer"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(ref, **_closed(folder))
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer of {ref} has no end-of-text token, so a model trained with it would never stop.",
            hint='In tokenizer_config.json, set "eos_token" to a token of the vocabulary.',
        )
    # transformers reads a reward at the last token that is not padding. That token should be end-of-text.
    same = apart and tokenizer.pad_token_id == tokenizer.eos_token_id
    if tokenizer.pad_token is None or same:
        known, end = tokenizer.get_vocab(), str(tokenizer.eos_token)
        spare = next((each for each in _PADS if each in known and each != end), tokenizer.unk_token or end)
        chosen = pad_token or spare
        if apart and chosen == tokenizer.eos_token:
            message = f"the tokenizer of {ref} has no padding token except its end-of-text token."
            raise ModelError(message, hint="Add one: --pad_token '[PAD]'")
        added = tokenizer.add_special_tokens({"pad_token": chosen})
        has = f"pads with {tokenizer.eos_token!r}, its end-of-text token" if same else "has no padding token"
        say(f"the tokenizer {has}: {chosen!r} is {'added' if added else 'used'}")
    return tokenizer


def computes_bf16(*, gpu: bool = True) -> bool:
    """Return whether the GPU (or the CPU if no GPU is used) has instructions for bf16."""
    if gpu and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return computes_in_bfloat16()


def weights_dtype(name: str, *, lora: bool, gpu: bool = True) -> torch.dtype:
    """Return the dtype of the model's weights during training.

    If `name` is "auto", the dtype is bf16 if an adapter is trained (`lora`) and the machine has instructions
    for bf16, otherwise float32. Raise `UsageError` for float16 without an adapter.
    """
    if name == "float16" and not lora:
        found = "weights in float16 cannot be trained: the range of float16 is too small for gradients."
        raise UsageError(found, hint="--dtype float32 --fp16 true (computes in float16), or --dtype bfloat16")
    if name != "auto":
        return DTYPES[name]
    # A learning rate of 2e-5 is too small for trained weights in bf16.
    return torch.bfloat16 if lora and computes_bf16(gpu=gpu) else torch.float32


def load_model(ref: str, *, dtype: torch.dtype, scores: bool = False) -> transformers.PreTrainedModel:
    """Load a model. Call `fit_vocabulary` next.

    With `scores`, load a reward model: a classifier with one label. A missing head gets random values.
    """
    folder = model_folder(ref, check_weights)
    task = "SequenceClassification" if scores else "CausalLM"
    loader: Any = getattr(transformers, f"AutoModelFor{task}")
    more: dict[str, Any] = {"num_labels": 1} if scores else {}
    with _loading(ref, "model"), quiet():
        model, info = loader.from_pretrained(
            ref, dtype=dtype, use_safetensors=True, output_loading_info=True, **_closed(folder), **more
        )
    if missing := sorted(set(info["missing_keys"]).difference(_HEADS if scores else ())):
        lacks = f"lacks {len(missing)} of the weights that its config.json describes"
        hint = f"Does config.json belong to another model? Check with: redraft weights info {ref}"
        raise ModelError(f"{ref} {lacks}, such as {', '.join(missing[:3])}.", hint=hint)
    if getattr(model, "is_quantized", False):
        hint = "Start from the original model, which is not quantised."
        raise ModelError(f"{ref} is quantised, and quantised weights cannot be trained.", hint=hint)
    return model  # type: ignore[no-any-return]


def load_trained(
    own: RunOptions,
    ref: str,
    tokenizer: Tokenizer,
    *,
    note: Mapping[str, Any] | None = None,
    scores: bool = False,
) -> transformers.PreTrainedModel | peft.PeftModel:
    """Load the model to train, and add an adapter if `own.lora` is set.

    `note` contains fields to add to the saved configuration. With `scores`, load a reward model.
    """
    transformers.set_seed(own.seed)  # a classifier's head may be new
    loaded = load_model(ref, dtype=DTYPES[own.dtype], scores=scores)
    grown = fit_vocabulary(loaded, tokenizer, ref=ref)
    if not own.lora:
        loaded.config.update(dict(note or {}))
        return loaded
    transformers.set_seed(own.seed)
    task = "SEQ_CLS" if scores else "CAUSAL_LM"
    return add_adapter(loaded, own, task=task, note=note or {}, whole_vocabulary=grown)


def skeleton(ref: str) -> transformers.PreTrainedModel:
    """Return a model without weights, on torch's `meta` device, to count parameters."""
    folder = model_folder(ref, check_config)
    loader: Any = transformers.AutoModelForCausalLM
    with _loading(ref, "model"), torch.device("meta"):
        return loader.from_config(transformers.AutoConfig.from_pretrained(ref, **_closed(folder)))  # type: ignore[no-any-return]


def _closed(folder: Path | None) -> dict[str, Any]:
    return {"trust_remote_code": False, "local_files_only": folder is not None}


def _loading(ref: str, what: str) -> AbstractContextManager[None]:
    here = Path(ref).expanduser().is_dir()
    hint = f"redraft weights verify {ref}" if here else "Is the name right, and can the hub be reached?"
    return loading(f"the {what} of {ref}", hint=hint, smaller="Use a smaller model, or --dtype bfloat16")


def fit_vocabulary(model: Any, tokenizer: Tokenizer, *, ref: str) -> bool:
    """Ensure that each token has an embedding row. Return whether a row for the padding token was added."""
    rows = model.get_input_embeddings().weight.shape[0]
    ids = tokenizer.get_vocab().values()
    needed = max(ids, default=-1) + 1
    grows: bool = needed > rows
    if grows:
        if sum(each >= rows for each in ids) > 1 or tokenizer.pad_token_id != rows:
            found = f"the tokenizer of {ref} has ids up to {needed - 1:,}, but the model has {rows:,}"
            hint = "Use the tokenizer files that came with the model."
            raise ModelError(f"{found} embeddings: tokenizer and model do not belong together.", hint=hint)
        model.resize_token_embeddings(needed, mean_resizing=False)
        head = model.get_output_embeddings()
        # Each new row is the mean of the existing ones, as in SelFee and Alpaca. The tables may be tied.
        with torch.no_grad():
            for table in {each.weight for each in (model.get_input_embeddings(), head) if each is not None}:
                table[rows:] = table[:rows].mean(0, dtype=torch.float32).to(table.dtype)
    for config in (model.config, getattr(model, "generation_config", None)):
        if config is not None:
            config.pad_token_id = tokenizer.pad_token_id
    return grows


ALL = "all-linear"  # every linear layer except the head


def default_method(parameters: int, gpu_bytes: int | None) -> tuple[bool, str]:
    """Return whether to train an adapter, and the reason in words.

    `gpu_bytes` is the memory of the GPU, or of all GPUs among which the model is sharded; None without a GPU.
    """
    if gpu_bytes is None:
        return True, "no GPU is used"
    full = parameters * 16.0  # bytes: 32-bit weight, gradient and AdamW's two moments
    has = f"the GPU has {gpu_bytes / 1e9:.0f} GB"
    asks = f"full training needs {full / 1e9:.1f} GB plus activations, and {has}"
    return full > gpu_bytes * 0.75, asks  # the rest is for activations


@dataclass
class _Config(peft.LoraConfig):
    redraft_format: str | None = field(default=None)
    redraft_reward: dict[str, Any] | None = field(default=None)


def add_adapter(
    model: transformers.PreTrainedModel,
    own: RunOptions,
    *,
    task: str = "CAUSAL_LM",
    note: Mapping[str, Any],
    whole_vocabulary: bool = False,
) -> peft.PeftModel:
    """Add an adapter with 32-bit weights to a model, and freeze the model's weights.

    The adapter's initial values are random, so seed torch first. `task` is peft's task type. With SEQ_CLS,
    the head is trained too.
    """
    targets = own.lora_target_modules
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    ends = tuple(f".{name}" for name in names)
    wrong = [target for target in targets if not any(end.endswith(f".{target}") for end in ends)]
    if wrong and ALL not in targets:
        known = sorted({name.rsplit(".", 1)[-1] for name in names})
        message = f"{type(model).__name__} has no linear layer {' or '.join(map(repr, wrong))}."
        raise UsageError(message, hint=f"--lora_target_modules {' '.join(known)}   (or {ALL})")
    config = _Config(
        r=own.lora_r,
        lora_alpha=own.lora_alpha,  # type: ignore[arg-type]  # any number is valid
        lora_dropout=own.lora_dropout,
        target_modules=ALL if ALL in targets else list(targets),
        task_type=task,
        **note,
    )
    with warnings.catch_warnings():
        # peft 0.21 asks for a property that transformers 5.23 has renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        # `weights.lora.merge` merges these models, and those that GGUF cannot store are refused earlier.
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`", UserWarning)
        added = peft.get_peft_model(model, config)
    added.peft_config["default"].base_model_name_or_path = own.model_name_or_path
    # By default, peft asks the hub at each save whether rows were added.
    added.save_pretrained = partial(  # type: ignore[method-assign]
        added.save_pretrained, selected_adapters=["default"], save_embedding_layers=whole_vocabulary
    )
    return added


def go_on_from(added: peft.PeftModel, adapter: Path) -> None:
    """Copy the adapter in the file or folder `adapter` into `added`, which may have a larger rank."""
    root = 1.0
    if adapter.is_dir():
        saved = read_config(adapter)
        alpha, root = saved.get("lora_alpha", 8), 0.5 if saved.get("use_rslora") else 1.0  # peft's defaults
        find_files(adapter)  # peft would ask the hub for missing files
        theirs = peft.load_peft_weights(str(adapter), device="cpu")
    else:
        base: Any = added.get_base_model()
        theirs, alpha = lora_weights(adapter, sizes_from_config(base.config.to_dict()))
    own = peft.get_peft_model_state_dict(added, save_embedding_layers=False)
    for name in sorted(own.keys() ^ theirs.keys()):
        hint = "Train the same modules (--lora_target_modules), or leave out --lora_from."
        raise UsageError(f"{adapter if name in own else 'the new adapter'} has no {name!r:.120}.", hint=hint)
    config: Any = added.peft_config["default"]
    begun = {}
    for name, values in own.items():
        found = theirs[name]
        sizes = list(zip(found.shape, values.shape, strict=False))
        fits = all(size == own_size or size < own_size == config.r for size, own_size in sizes)
        if not fits or found.ndim != values.ndim:
            said = f"--lora_from: {name!r:.120} of {adapter} is {by(found.shape)}, not {by(values.shape)}."
            raise UsageError(said, hint="Train the adapter's base model. Set --lora_r to its rank or more.")
        begun[name], place = values.clone(), tuple(map(slice, found.shape))
        if ".lora_B" in name:
            found = found * (alpha / found.shape[1] ** root if alpha else 1.0) * config.r / config.lora_alpha
        begun[name][place] = found
    peft.set_peft_model_state_dict(added, begun)


def leave_inputs_to_autocast(model: nn.Module, *, leave: bool = True) -> None:
    """Keep peft from casting an adapter's input to 32 bits. `leave=False` turns the casts on again.

    Use this only while the model is called under autocast.
    """
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = not leave
