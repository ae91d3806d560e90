r"""Convert the pre-tokenizers of byte-level BPE between tokenizer.json and llama.cpp's names.

A GGUF file names one of llama.cpp's built-in rules (`tokenizer.ggml.pre`). A tokenizer.json defines a rule by
the steps `Digits`, `Split` and `ByteLevel`. `PRE_TOKENIZERS` has the rules of the supported architectures as
regular expressions. The steps of a tokenizer.json are converted to regular expressions to find the rule.

Some differences cannot be avoided. llama.cpp does not normalise to NFC. llama.cpp's `tekken` ignores marks
(`\p{M}`) and the case of letters outside ASCII. llama.cpp and `tokenizers` know different versions of
Unicode, so one of the two may not know a recent letter that the other knows.

Sources: llama.cpp, src/llama-vocab.cpp (names and settings); the tokenizer.json files of the models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redraft.errors import ModelError
from redraft.weights.tokenizers.folder import as_object

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DIGIT = r"\p{N}"

_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _ENDINGS + r"\p{N}{1,3}" + _REST
_QWEN2 = _ENDINGS + r"\p{N}" + _REST
_SEED = _ENDINGS + r"\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"


@dataclass(frozen=True)
class PreTokenizer:
    """A rule of llama.cpp for splitting texts before BPE."""

    name: str  # the value of `tokenizer.ggml.pre`
    splits: tuple[str, ...]  # regular expressions; each splits the pieces of the one before
    ignore_merges: bool = False  # whether a piece that equals a token becomes this token, without merging
    nfc: bool = False  # whether models with this rule normalise texts to NFC
    add_bos: bool = False  # whether llama.cpp prepends BOS by default


_KNOWN = (
    PreTokenizer("gpt-2", (GPT2,)),
    PreTokenizer("smollm", (DIGIT, GPT2)),
    PreTokenizer("llama-bpe", (_LLAMA3,), ignore_merges=True, add_bos=True),
    PreTokenizer("smaug-bpe", (_LLAMA3,)),
    PreTokenizer("qwen2", (_QWEN2,), nfc=True),
    PreTokenizer("seed-coder", (_SEED,)),
    PreTokenizer("tekken", (_TEKKEN,), ignore_merges=True, add_bos=True),
    PreTokenizer("deepseek-coder", (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, DIGIT)),
)
_SAME_AS = {
    "phi-2": "gpt-2",
    "starcoder": "smollm",
    "refact": "smollm",
    "llama3": "llama-bpe",
    "llama-v3": "llama-bpe",
    "dbrx": "smaug-bpe",
    "deepseek-r1-qwen": "qwen2",
    "megrez": "qwen2",
}
PRE_TOKENIZERS = {each.name: each for each in _KNOWN}


def pre_tokenizer_named(name: object) -> PreTokenizer:
    """Return the rule that a GGUF file names."""
    known = _SAME_AS.get(name, name) if isinstance(name, str) else ""
    if known not in PRE_TOKENIZERS:
        known = f"Known names: {', '.join([*PRE_TOKENIZERS, *_SAME_AS])}."
        hint = "Use the tokenizer of the folder that the GGUF file was made from."
        raise ModelError(f"the GGUF file names the unknown pre-tokenizer {name!r:.80}. {known}", hint=hint)
    return PRE_TOKENIZERS[known]


def pre_tokenizer_of(tokenizer: Mapping[str, Any]) -> PreTokenizer:
    """Return the rule in the field `pre_tokenizer` of a tokenizer.json with a byte-level BPE model."""
    match tokenizer.get("pre_tokenizer"):
        case {"type": "Sequence", "pretokenizers": [*parts]}:
            splits = tuple(split for part in parts for split in _flat(part))
        case step:
            splits = tuple(_flat(step))
    whole = bool(as_object(tokenizer.get("model")).get("ignore_merges"))
    for each in PRE_TOKENIZERS.values():
        if (each.splits, each.ignore_merges) == (splits, whole):
            return each
    rule = f"{' , then '.join(splits)!r:.200}, ignore_merges {str(whole).lower()}"
    message = f"tokenizer.json splits texts by a rule that llama.cpp does not have: {rule}."
    raise ModelError(message, hint="Try llama.cpp's convert_hf_to_gguf.py: it supports more tokenizers.")


def pre_tokenizer_json(rule: PreTokenizer) -> dict[str, Any]:
    """Convert a rule to the steps that models with this rule have in a tokenizer.json (`pre_tokenizer`)."""
    splits = list(rule.splits)
    if regex := splits[-1] == GPT2:
        splits.pop()
    steps: list[dict[str, Any]] = []
    for split in splits:
        isolated = {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False}
        steps.append({"type": "Digits", "individual_digits": True} if split == DIGIT else isolated)
    steps.append({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": regex})
    return steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}


def _flat(step: object) -> Sequence[str]:
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}:
            return []
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return [GPT2]
        case {"type": "Digits", "individual_digits": True}:
            return [DIGIT]
        # Both are equivalent, because these expressions match everything.
        case {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Isolated", "invert": False} | {
            "type": "Split",
            "pattern": {"Regex": str(regex)},
            "behavior": "Removed",
            "invert": True,
        }:
            return [regex.replace("\r", r"\r").replace("\n", r"\n")]
    return [f"<{as_object(step).get('type', step)!s:.40}>"]
