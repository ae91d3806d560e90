"""Load a transformers folder, with or without a LoRA adapter.

Code in a folder is never run (`trust_remote_code`), and nothing is unpickled: redraft's package `weights`
reads the weights. An adapter is merged in memory, as by `redraft weights merge-lora`. The hub is never used.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
import transformers
from torch import Tensor

from redraft.engines.hf.cache import Pass, Slots, Windows, cache_argument, forward
from redraft.engines.text import Tokenizer
from redraft.errors import ModelError, RedraftError
from redraft.weights.checkpoint import open_checkpoint
from redraft.weights.folder import has_tokenizer, refuse_delta, refuse_quantised
from redraft.weights.lora.adapter import check_finite, read_adapter, refuse_adapter
from redraft.weights.lora.merge import merged, plan_merge

_KINDS = {"full_attention", "sliding_attention"}
_ROUNDING = 0.05
"""Allowed difference between equivalent computations, relative to the largest logit. bfloat16 needs 0.01."""

CLOSED: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""Arguments for transformers' loaders that forbid downloads and running code from the folder."""

_ANOTHER = "Get the model again: weights and config.json do not belong together."
_AS_GGUF = "Convert it for llama.cpp: redraft weights gguf FOLDER -o FILE.gguf"


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to run."""

    model: Any
    tokenizer: Any
    format: str | None  # the `redraft_format` of its configuration, or None
    ends: frozenset[int]


def load(
    folder: Path, adapter: Path | None, device: torch.device, dtype: torch.dtype | None = None
) -> Loaded:
    """Load a model's folder, and merge the adapter into the model.

    Args:
        dtype: The dtype to compute in; None for `usual_dtype`.

    Raises:
        ModelError: A file is missing or damaged, or the model is not supported.
        UsageError: The weights are a pickle.
    """
    checkpoint = open_checkpoint(folder)
    for refuse in (refuse_adapter, refuse_delta, refuse_quantised):
        refuse(checkpoint)
    lora = read_adapter(adapter) if adapter is not None else None
    plan = plan_merge(checkpoint, lora, None) if lora is not None else None
    if lora is not None:
        check_finite(lora)
    with quiet():
        tokenizer = load_tokenizer(adapter if adapter is not None and has_tokenizer(adapter) else folder)
        with loading(f"{folder / 'config.json'}"):
            config = transformers.AutoConfig.from_pretrained(folder, **CLOSED)
        for key, value in (plan.config if plan else {}).items():
            setattr(config.get_text_config(), key, value)
        if lora is None or plan is None:
            tensors = {k: checkpoint.read(k).reshape(at.shape) for k, at in checkpoint.tensors.items()}
        else:
            targets = plan.targets.items()
            tensors = {k: torch.cat(list(merged(each, lora))).reshape(each.info.shape) for k, each in targets}
        model = _model(folder, config, tensors, device, dtype)
    settings = checkpoint.json("config.json")
    format_ = (lora.format if lora else None) or settings.get("redraft_format")
    ends = ends_of(tokenizer, settings, checkpoint.json("generation_config.json"))
    return Loaded(model, tokenizer, format_ if isinstance(format_, str) else None, ends)


def load_tokenizer(folder: Path) -> Any:
    """Load the fast tokenizer of a folder. Raise `ModelError` if there is no fast tokenizer."""
    check_tokenizer(folder)
    with loading(f"the tokenizer of {folder}"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **CLOSED)
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{folder} has a slow tokenizer, but redraft needs a fast one (tokenizer.json).")
    return tokenizer


def check_tokenizer(folder: Path) -> None:
    """Raise `ModelError` if a folder contains no tokenizer."""
    if not has_tokenizer(folder):
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:8])
        message = f"{folder} has no tokenizer: no tokenizer.json, no tokenizer.model. It contains: {found}."
        raise ModelError(message, hint="Copy tokenizer.json and tokenizer_config.json from its base model.")


@contextmanager
def loading(
    what: str, *, hint: str | None = None, smaller: str = "Use a smaller model, or --gpu-layers 0."
) -> Iterator[None]:
    """Turn every error in a `with` block, except `RedraftError`, into `ModelError`."""
    try:
        yield
    except RedraftError:
        raise
    except (MemoryError, torch.OutOfMemoryError):
        raise ModelError(f"{what} does not fit into memory.", hint=smaller) from None
    except Exception as error:  # damaged files cause many types of errors
        raise ModelError(f"{what} cannot be loaded: {_reason(error)}.", hint=hint) from error


def ends_of(tokenizer: Any, *settings: dict[str, Any]) -> frozenset[int]:
    """Return the tokens that end a text, according to the tokenizer and the model's `settings`."""
    named = [tokenizer.eos_token_id, *(setting.get("eos_token_id") for setting in settings)]
    listed = [ids if isinstance(ids, list) else [ids] for ids in named]
    return frozenset(token for tokens in listed for token in tokens if isinstance(token, int))


def windows_of(model: Any, context: int) -> Windows:
    """Return the window length of each type of attention layer, in tokens; None for the whole context."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    window = window if isinstance(window, int) and window > 0 else None
    usual = ["sliding_attention" if window else "full_attention"]
    kinds = set(getattr(config, "layer_types", None) or usual)
    if not kinds <= _KINDS:
        raise _other_kind(model, f"it has layers of the type {', '.join(sorted(kinds - _KINDS))}")
    sees = window if window is not None and window < context else None
    return {kind: sees if kind == "sliding_attention" else None for kind in sorted(kinds)}


def check_model(model: Any, tokenizer: Tokenizer, windows: Windows) -> None:
    """Raise `ModelError` if the tokenizer does not fit, or if reading a text in parts changes the logits."""
    rows = model.get_input_embeddings().weight.shape[0]
    if tokenizer.size > rows:
        raise ModelError(
            f"the tokenizer has {tokenizer.size} tokens, but the model has only {rows}.",
            hint="Use the tokenizer in the folder of the weights.",
        )
    needed = {"position_ids", cache_argument(model), "logits_to_keep"}
    if missing := sorted(needed - inspect.signature(model.forward).parameters.keys()):
        where = f"in transformers {transformers.__version__}"
        raise _other_kind(model, f"{where}, it does not accept {' or '.join(missing)}")
    ids = [number % rows for number in range(2, 8)]
    with torch.inference_mode():
        whole = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1]
        cache = Slots(model, 1, len(ids))
        try:
            forward(model, cache, windows, [ids[:4]], Pass((0,), (0,), 4))
            parts = forward(model, cache, windows, [ids[4:]], Pass((0,), (4,), 2))[0, -1]
        except (TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise _other_kind(model, _reason(error)) from None
    if whole.isfinite().all() and (whole - parts).abs().max() > _ROUNDING * whole.abs().max():
        raise _other_kind(model, "its logits differ when redraft caches part of the text")


def _other_kind(model: Any, why: str) -> ModelError:
    return ModelError(f"{type(model).__name__} is not supported: {why}.", hint=_AS_GGUF)


def usual_dtype(stored: torch.dtype | None, device: torch.device) -> torch.dtype:
    """Return the default dtype to compute in.

    On a GPU, return the dtype of the weights. On a CPU with bfloat16 instructions, return bfloat16 for 16-bit
    weights. Otherwise return float32.
    """
    if stored not in (torch.float32, torch.bfloat16, torch.float16):
        return torch.float32
    if device.type != "cpu":
        return stored
    return torch.bfloat16 if stored != torch.float32 and computes_in_bfloat16() else torch.float32


def computes_in_bfloat16() -> bool:
    """Return whether the CPU has instructions for bfloat16: AMX, AVX-512 BF16, or ARM's."""
    return any(torch.cpu.get_capabilities().get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def _model(
    folder: Path, config: Any, tensors: dict[str, Tensor], device: torch.device, dtype: torch.dtype | None
) -> Any:
    known = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    if type(config) not in known:
        raise ModelError(f"{folder} has the model type {config.model_type!r}, which does not generate text.")
    kind: Any = known[type(config)]
    dtype = dtype or usual_dtype(config.dtype, device)
    with loading(str(folder)):
        model, report = kind.from_pretrained(
            None, config=config, state_dict=tensors, dtype=dtype, output_loading_info=True
        )
        if names := sorted(report["missing_keys"]):
            shown = f"{', '.join(names[:3])}{f' and {len(names) - 3} more' * (len(names) > 3)}"
            message = f"{folder} lacks tensors that its config.json asks for: {shown}."
            raise ModelError(message, hint=_ANOTHER)
        return model.to(device)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars and warnings of transformers within the `with` block."""
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


def _reason(error: Exception) -> str:
    return shorten(str(error).strip() or type(error).__name__, 200, placeholder=" …").rstrip(".")
