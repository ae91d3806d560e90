"""Loads a transformers folder, with or without a LoRA adapter, as a model that can be run here.

Nothing of a folder is executed or unpickled: weights are read by redraft's own checked reader (`weights`),
and an adapter is merged into them in memory, as `redraft weights merge-lora` would. Code that comes with a
model (`trust_remote_code`) is not run. The hub is never asked.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from redraft.engines.hf.cache import Pass, Slots, forward, layers_of
from redraft.engines.hf.tokens import Words
from redraft.errors import ModelError
from redraft.weights.checkpoint import Checkpoint, open_checkpoint
from redraft.weights.folder import has_tokenizer, refuse_delta, refuse_quantised
from redraft.weights.lora.adapter import Adapter, check_finite, read_adapter, refuse_adapter
from redraft.weights.lora.merge import merged
from redraft.weights.lora.plan import Plan, plan_merge

_KINDS = {"full_attention", "sliding_attention"}
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_ROUNDING = 0.05
"""Most that two ways to compute the same may differ by, of the largest logit: bf16 needs a hundredth."""

_AS_GGUF = "Run it with llama.cpp: redraft weights gguf FOLDER -o FILE.gguf"


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to run.

    Attributes:
        format: How it says that it revises (`redraft_format`), or None.
        ends: Tokens that end a text.
    """

    model: Any
    tokenizer: Any
    format: str | None
    ends: frozenset[int]


def load(folder: Path, adapter: Path | None, device: torch.device) -> Loaded:
    """Loads a folder.

    On a CPU all weights are in 32 bits, which is exact for those of 16; elsewhere as they are.

    Raises:
        ModelError: Something is missing, damaged, or of a kind that cannot be run here.
        UsageError: The weights are a pickle.
    """
    checkpoint = open_checkpoint(folder)
    for refuse in (refuse_adapter, refuse_delta, refuse_quantised):
        refuse(checkpoint)
    lora = read_adapter(adapter) if adapter is not None else None
    plan = plan_merge(checkpoint, lora, None) if lora is not None else None
    if lora is not None:
        check_finite(lora)
    with _quiet():
        own = adapter if adapter is not None and has_tokenizer(adapter) else folder
        tokenizer = load_tokenizer(own)
        _insist_on_layers(checkpoint)
        config = _config(folder, plan)
        model = _model(folder, config, _tensors(checkpoint, lora, plan), device)
    settings = checkpoint.json("config.json")
    said = (lora.format if lora else None) or settings.get("redraft_format")
    ends = ends_of(tokenizer, settings, checkpoint.json("generation_config.json"))
    return Loaded(model, tokenizer, said if isinstance(said, str) else None, ends)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder.

    Raises:
        ModelError: There is none, or none that is fast.
    """
    if not has_tokenizer(folder):
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:8])
        raise ModelError(
            f"{folder} has no tokenizer: no tokenizer.json, no tokenizer.model. It holds: {found}.",
            hint="Copy tokenizer.json and tokenizer_config.json from the model that it was made from.",
        )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # noqa: BLE001  (a damaged file leads transformers into errors of any kind)
        raise ModelError(f"the tokenizer of {folder} cannot be loaded: {_said(error)}") from None
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{folder} has a tokenizer that only exists in Python, with no tokenizer.json.")
    return tokenizer


def ends_of(tokenizer: Any, *settings: dict[str, Any]) -> frozenset[int]:
    """The tokens that end a text, by a tokenizer and its model's settings: those for chat name more."""
    named = [tokenizer.eos_token_id, *(said.get("eos_token_id") for said in settings)]
    listed = [each if isinstance(each, list) else [each] for each in named]
    return frozenset(token for tokens in listed for token in tokens if isinstance(token, int))


def windows_of(model: Any, context: int) -> dict[str, int | None]:
    """By kind of attention, how many tokens it sees within a context; None for all.

    Raises:
        ModelError: A layer is of another kind.
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    window = window if isinstance(window, int) and window > 0 else None
    usual = ["sliding_attention" if window else "full_attention"]
    kinds = set(getattr(config, "layer_types", None) or usual)
    if not kinds <= _KINDS:
        raise _other_kind(model, f"it has layers of {', '.join(sorted(kinds - _KINDS))}")
    sees = window if window is not None and window < context else None
    return {kind: sees if kind == "sliding_attention" else None for kind in sorted(kinds)}


def check_model(model: Any, words: Words, windows: dict[str, int | None]) -> None:
    """Sees that a model fits its tokenizer, and says the same in two parts as in one.

    Raises:
        ModelError: It does not. Better no answer than one from a cache that the model understands otherwise.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if words.size > rows:
        raise ModelError(
            f"the tokenizer has {words.size} tokens and the model {rows}: they are not of one model.",
            hint="Take the tokenizer's files from the folder that the weights came from.",
        )
    if not {"position_ids", "past_key_values", "logits_to_keep"} <= set(
        inspect.signature(model.forward).parameters
    ):
        raise _other_kind(model, "its positions cannot be given")
    ids = [number % rows for number in range(2, 8)]
    with torch.inference_mode():
        whole = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1]
        cache = Slots(layers_of(model), 1, len(ids))
        try:
            forward(model, cache, windows, [ids[:4]], Pass((0,), (0,), 4))
            parts = forward(model, cache, windows, [ids[4:]], Pass((0,), (4,), 2))[0, -1]
        except (TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise _other_kind(model, _said(error)) from None
    if whole.isfinite().all() and (whole - parts).abs().max() > _ROUNDING * whole.abs().max():
        raise _other_kind(model, "its text in two parts is not the text in one")


def _other_kind(model: Any, why: str) -> ModelError:
    name = type(model).__name__
    return ModelError(f"{name} keeps its memory in a way that is not handled here: {why}.", hint=_AS_GGUF)


def _config(folder: Path, plan: Plan | None) -> Any:
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # noqa: BLE001  (a damaged file leads transformers into errors of any kind)
        raise ModelError(f"{folder / 'config.json'} is not understood: {_said(error)}") from None
    for key, value in (plan.config if plan else {}).items():
        setattr(config.get_text_config(), key, value)
    return config


def _tensors(checkpoint: Checkpoint, lora: Adapter | None, plan: Plan | None) -> dict[str, torch.Tensor]:
    """The weights by name, with what the adapter adds."""
    if lora is None or plan is None:
        return {name: checkpoint.read(name).reshape(info.shape) for name, info in checkpoint.tensors.items()}
    return {
        name: torch.cat(list(merged(target, lora))).reshape(target.info.shape)
        for name, target in plan.targets.items()
    }


def _model(folder: Path, config: Any, tensors: dict[str, torch.Tensor], device: torch.device) -> Any:
    known = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    if type(config) not in known:
        raise ModelError(
            f"{folder} is a model of the type {config.model_type!r}, which does not continue text."
        )
    kind: Any = known[type(config)]
    dtype = torch.float32 if device.type == "cpu" or config.dtype not in _FLOATS else config.dtype
    try:
        _insist_on_size(folder, kind, config, tensors)
        model, said = kind.from_pretrained(
            None, config=config, state_dict=tensors, dtype=dtype, output_loading_info=True
        )
        _insist_on_all(folder, said["missing_keys"])
        return model.to(device)
    except torch.OutOfMemoryError:
        raise ModelError(
            f"{folder} does not fit into the memory of the GPU.", hint="--gpu-layers 0"
        ) from None
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001  (files that do not fit each other lead to errors of any kind)
        raise ModelError(f"{folder} cannot be loaded: {_said(error)}") from None


def _insist_on_size(folder: Path, kind: Any, config: Any, tensors: dict[str, torch.Tensor]) -> None:
    """Sees that config.json does not ask for far more than the weights are, before memory is taken for it."""
    there = sum(tensor.numel() for tensor in tensors.values())
    with torch.device("meta"):
        asked = sum(parameter.numel() for parameter in kind(config).parameters())
    if asked > 2 * there:  # twice, because of embeddings that are stored once and used twice
        raise _other_size(folder, f"{asked:,} numbers, and the weights are {there:,}")


def _insist_on_layers(checkpoint: Checkpoint) -> None:
    """Sees that there can be as many layers as config.json says: transformers makes lists of that length."""
    settings = checkpoint.json("config.json")
    for said in (settings, settings.get("text_config")):
        layers = said.get("num_hidden_layers") if isinstance(said, dict) else None
        if isinstance(layers, int) and layers > len(checkpoint.tensors):
            tensors = len(checkpoint.tensors)
            raise _other_size(checkpoint.folder, f"{layers:,} layers, and there are {tensors} tensors")


def _other_size(folder: Path, why: str) -> ModelError:
    return ModelError(
        f"{folder / 'config.json'} asks for {why}.",
        hint="Get the model again: weights and config.json are not of one model.",
    )


def _insist_on_all(folder: Path, missing: Iterable[str]) -> None:
    names = sorted(missing)
    if names:
        raise ModelError(
            f"{folder} lacks {len(names)} tensors that its config.json asks for: "
            f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''}.",
            hint="Get the model again: weights and config.json are not of one model.",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers from drawing bars, and from reporting what is an error here or does not matter."""
    logging: Any = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _said(error: Exception) -> str:
    """The first lines of what transformers said, which may be a page."""
    text = str(error).strip() or type(error).__name__
    return " ".join(text.split())[:200].rstrip(".") + "."
