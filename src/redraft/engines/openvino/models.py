"""Check GGUF files for OpenVINO, convert weights that OpenVINO reads inexactly, and make tokenizers.

OpenVINO reads the architectures llama, qwen2 and qwen3. Q4_0, Q8_0 and F16 stay exact, but the offsets of
Q4_1 and K-quants are rounded to whole steps. Of 128 tokens that the default model predicted, only 79 were the
same as with exact weights, but 107 after a conversion to Q8_0, at the same speed. So inexact formats become
Q8_0 in a cached copy. OpenVINO does not apply adapters to GGUF files, so they are merged into the copy.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from redraft.errors import ModelError
from redraft.jobs.files import locked, replacing, written_to
from redraft.jobs.machine import cache_folder
from redraft.weights.gguf.reader import GGUFHeader, Tensor, check_model, read_header
from redraft.weights.gguf.requantise import rewrite
from redraft.weights.tokenizers.from_gguf import tokenizer_files

READ = ("llama", "qwen2", "qwen3")  # architectures
EXACT = (0, 1, 2, 8)  # ggml types that are read exactly: F32, F16, Q4_0, Q8_0
COPIES = 4  # maximum number of copies in the cache; older ones are removed

_LAYOUT = 1  # increased when copies are made differently


class Prepared(NamedTuple):
    """The input of the process: a model file, and a folder with the tokenizer in OpenVINO's format."""

    file: Path
    tokenizer: Path


def check(model: Path, headers: Sequence[GGUFHeader]) -> None:
    """Raise `ModelError` for a model or adapters that OpenVINO does not read, or would read wrongly."""
    header, *adapters = headers
    architecture = header.text("general.architecture")
    scaling = header.text(f"{architecture}.rope.scaling.type") or "none"
    names, others = header.tensors, [name for each in adapters for name in each.tensors]
    faults = {
        f"its architecture is {architecture!r:.40}, not {' or '.join(READ)}": architecture not in READ,
        "it is a mixture of experts": header.number(f"{architecture}.expert_count"),
        "its rotary positions are scaled": scaling != "none" or "rope_freqs.weight" in names,
        "it is one part of several": (header.number("split.count") or 1) > 1,
        "it has an unknown number format": any(tensor.size is None for tensor in names.values()),
        "an adapter changes its embedding": "token_embd.weight.lora_a" in others,
    }
    if found := next((fault for fault, is_there in faults.items() if is_there), None):
        raise ModelError(f"OpenVINO does not read {model}: {found}.", hint="--engine llamacpp reads it.")


def loaded_bytes(header: GGUFHeader) -> int:
    """Return the memory in bytes that loading a model's weights needs.

    Measured: twice the file's size (290 MB for 145 MB).
    """
    sizes = (each.size or 0 if _is_exact(each) else prod(each.shape) for each in header.tensors.values())
    return 2 * sum(sizes)


def _is_exact(tensor: Tensor) -> bool:
    return len(tensor.shape) < 2 or tensor.kind in EXACT


def prepare(model: Path, headers: Sequence[GGUFHeader], adapters: Sequence[Path]) -> Prepared:
    """Return the files to load: the model or a converted copy. Raise `OutputError` if copying fails."""
    files = [path.resolve() for path in (model, *adapters)]
    facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    name = hashlib.sha256(json.dumps([_LAYOUT, facts]).encode()).hexdigest()[:16]
    folder = cache_folder() / "openvino" / name
    if not adapters and all(map(_is_exact, headers[0].tensors.values())):
        return Prepared(model, folder / "tokenizer")
    made = folder / model.name
    hint = "Make room, choose another folder (export REDRAFT_CACHE=…), or use --engine llamacpp."
    with written_to(folder.parent, f"the copy of {model} for OpenVINO", hint):
        with locked(folder.with_suffix(".lock")):
            folder.mkdir(exist_ok=True)
            if not _is_whole(made):
                with replacing(made) as copy:
                    rewrite(model, copy, adapters)
        os.utime(folder)
        homes = [each for each in folder.parent.iterdir() if each.is_dir()]
        for old in sorted(homes, key=lambda each: each.stat().st_mtime)[:-COPIES]:
            shutil.rmtree(old, ignore_errors=True)
            old.with_suffix(".lock").unlink(missing_ok=True)
    return Prepared(made, folder / "tokenizer")


def _is_whole(copy: Path) -> bool:
    try:
        check_model(copy, read_header(copy))
    except ModelError:
        return False
    return True


_ENDS = (
    *("</s>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>"),
    *("<end_of_turn>", "<|endoftext|>", "<|end_of_text|>"),
)
"""Control tokens that end a text in addition to the file's EOS, as in llama.cpp (src/llama-vocab.cpp)."""


class GGUFTokenizer:
    """The tokenizer and chat template of a GGUF file, for `engines.text.Tokenizer`. Needs the full header."""

    def __init__(self, header: GGUFHeader) -> None:
        import tokenizers

        files = tokenizer_files(header.metadata)
        kind: Any = tokenizers.Tokenizer
        self._fast = kind.from_str(json.dumps(files["tokenizer.json"], ensure_ascii=False))
        special = files["tokenizer_config.json"]
        self.eos_token: str | None = special.get("eos_token")
        self._special = {name: text for name, text in special.items() if name.endswith("_token")}
        self.chat_template = header.text("tokenizer.chat_template")

    def get_vocab(self) -> dict[str, int]:
        """Map each token to its id."""
        vocabulary: dict[str, int] = self._fast.get_vocab()
        return vocabulary

    def ends(self) -> frozenset[int]:
        """Return the tokens that end a text."""
        found = map(self._fast.token_to_id, (*_ENDS, self.eos_token or ""))
        return frozenset(token for token in found if token is not None)

    def __call__(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> dict[str, Any]:
        """Return the token ids of a text."""
        self._fast.encode_special_tokens = split_special_tokens
        return {"input_ids": self._fast.encode(text, add_special_tokens=add_special_tokens).ids}

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool, **_: bool) -> str:
        """Return the text of token ids."""
        return str(self._fast.decode(tokens, skip_special_tokens=skip_special_tokens))

    def apply_chat_template(self, messages: Sequence[Any], **told: Any) -> str:
        """Render messages as transformers does."""
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        jinja = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        jinja.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
        now = datetime.now()  # noqa: DTZ005  (templates show the local date)
        jinja.globals |= {"raise_exception": _refuse, "strftime_now": now.strftime}
        return jinja.from_string(self.chat_template or "").render(messages=messages, **self._special, **told)


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)
