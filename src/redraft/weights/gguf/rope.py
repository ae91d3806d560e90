"""Rotary embeddings and their scaling: `rope_parameters` of config.json <-> GGUF's keys and a tensor.

Three scalings go both ways. Linear and YaRN are keys. Llama 3's is a tensor of divisors, one a frequency;
on the way back its four numbers are looked for among those that were ever used, and the tensor must come
out the same. Others (dynamic, longrope) and embeddings of a part of the head are refused.

Facts: transformers' modeling_rope_utils.py; llama.cpp's conversion/base.py, conversion/llama.py and, for
what the attention factor multiplies, src/llama-context.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from redraft.errors import ModelError
from redraft.weights.gguf.names import LLAMA, MISTRAL, OTHER_TOOL, Family
from redraft.weights.header import NotHandled

THETA = 10000.0
"""The base where a file does not say it: `default_theta` of transformers, and llama.cpp's own."""

LEAST, MOST = 1e-37, 1e37
"""Between these, a number of 32 bits is as exact as it can be."""

MOST_TOKENS = 1 << 31

# YaRN's own bounds, in rotations over the original context. llama.cpp reads no others in these architectures.
_BOUNDS = {"beta_fast": 32, "beta_slow": 1}
_LLAMA3_KEYS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


@dataclass(frozen=True)
class Rope:
    """Base and scaling of a rotary embedding.

    Attributes:
        theta: The base.
        kind: `default`, `linear`, `yarn` or `llama3`.
        numbers: The scaling's numbers, named as in `rope_parameters`.
    """

    theta: float
    kind: str = "default"
    numbers: Mapping[str, float] = field(default_factory=dict)


def rope_from_config(config: Mapping[str, Any], family: Family, head: int) -> Rope:
    """Reads `rope_parameters`, or `rope_theta` and `rope_scaling` as older files have it.

    Raises:
        ModelError: A kind that does not go to GGUF here, or numbers that are missing or cannot be.
    """
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, Mapping):
        raise ModelError(f"config.json has rope_parameters {given!r:.60}, which is no object.")
    theta = _number({"rope_theta": config.get("rope_theta", THETA), **given}, "rope_theta")
    kind = given.get("rope_type", given.get("type", "default"))
    part = given.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if part not in (None, 1):
        raise _refused(f"a rotary embedding of a part of the head ({part!r:.20})")
    match kind:
        case "default":
            return Rope(theta)
        case "linear":
            return Rope(theta, kind, {"factor": _number(given, "factor")})
        case "yarn":
            return Rope(theta, kind, _yarn(given, config))
        case "llama3" if family in (LLAMA, MISTRAL):
            rope = Rope(theta, kind, {key: _number(given, key) for key in _LLAMA3_KEYS})
            rope_factors(rope, head)
            return rope
    raise _refused(f"rotary scaling of the kind {kind!r:.40} for {family.architecture}")


def rope_in_config(rope: Rope) -> dict[str, Any]:
    """`rope_parameters` for config.json."""
    whole = {key: int(n) if key.startswith("original") else n for key, n in rope.numbers.items()}
    return {"rope_type": rope.kind, "rope_theta": rope.theta, **whole}


def rope_metadata(rope: Rope) -> dict[str, int | float | str]:
    """GGUF's keys, without the architecture before them. Llama 3's scaling is a tensor, and has no key."""
    said: dict[str, int | float | str] = {"rope.freq_base": rope.theta}
    if rope.kind in ("linear", "yarn"):
        said |= {"rope.scaling.type": rope.kind, "rope.scaling.factor": rope.numbers["factor"]}
    if rope.kind == "yarn":
        said["rope.scaling.original_context_length"] = int(rope.numbers["original_max_position_embeddings"])
        if "attention_factor" in rope.numbers:
            # llama.cpp multiplies what YaRN prescribes; transformers puts this in its place.
            said["rope.scaling.attn_factor"] = rope.numbers["attention_factor"] / _prescribed(rope.numbers)
    return said


def rope_from_metadata(values: Mapping[str, Any], factors: tuple[float, ...], head: int) -> Rope:
    """Reads GGUF's keys and the tensor of divisors.

    Args:
        values: Keys without the architecture before them.
        factors: The values of `rope_freqs.weight`; none where there is no such tensor.
        head: Elements of a head.

    Raises:
        ModelError: A scaling that transformers has no name for, or numbers that cannot be.
    """
    theta = _number({"rope.freq_base": THETA, **values}, "rope.freq_base")
    kind = values.get("rope.scaling.type", "none")
    if not all(0 < factor < math.inf for factor in factors):
        raise ModelError("the GGUF file has a rope_freqs.weight with values that are no numbers above 0.")
    if any(factor != 1 for factor in factors):
        return Rope(theta, "llama3", _llama3(theta, factors, head))
    match kind:
        case "none":
            return Rope(theta)
        case "linear":
            factor = _number(values, "rope.scaling.factor")
            return Rope(theta) if factor == 1 else Rope(theta, "linear", {"factor": factor})
        case "yarn":
            return Rope(theta, "yarn", _yarn_from(values))
    raise NotHandled(
        f"the GGUF file has rotary scaling of the kind {kind!r:.40}: no way back to a folder here."
    )


def rope_factors(rope: Rope, head: int) -> list[float]:
    """Llama 3's divisors of the frequencies, head / 2 of them: 1 for the fast, `factor` for the slow.

    Raises:
        ModelError: The numbers leave nothing between fast and slow.
    """
    factor, low, high, original = (rope.numbers[key] for key in _LLAMA3_KEYS)
    if not low < high:
        raise ModelError(
            f"config.json has low_freq_factor {low:g} and high_freq_factor {high:g}: not below it."
        )

    def divisor(index: int) -> float:
        wavelength = 2 * math.pi * math.pow(rope.theta, 2 * index / head)
        if wavelength < original / high:
            return 1.0
        if wavelength > original / low:
            return factor
        smooth = (original / wavelength - low) / (high - low)
        return 1 / ((1 - smooth) / factor + smooth)

    return [divisor(index) for index in range(head // 2)]


def _llama3(theta: float, factors: tuple[float, ...], head: int) -> dict[str, float]:
    """The numbers behind the divisors: any factor, 1 and 4 as in every Llama 3, and an original context."""
    for original in (8192, *(1 << bits for bits in range(6, 21))):
        numbers = dict(zip(_LLAMA3_KEYS, (max(factors), 1.0, 4.0, original), strict=True))
        made = rope_factors(Rope(theta, "llama3", numbers), head)
        if np.shape(made) == np.shape(factors) and np.allclose(made, factors, rtol=1e-5):
            return numbers
    raise NotHandled(
        "the GGUF file has a rope_freqs.weight that is not Llama 3's: no way back to a folder here."
    )


def _yarn(given: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, float]:
    original = given.get("original_max_position_embeddings") or config.get("max_position_embeddings")
    numbers = {
        "factor": _number(given, "factor"),
        "original_max_position_embeddings": positive(
            original, "original_max_position_embeddings", MOST_TOKENS
        ),
    }
    for key, bound in _BOUNDS.items():
        if given.get(key) not in (None, bound):
            raise _refused(f"YaRN with {key} {given[key]!r:.20}")
    if given.get("truncate") is False:
        raise _refused("YaRN without truncation")
    if given.get("attention_factor") is not None:
        numbers["attention_factor"] = _number(given, "attention_factor")
    elif given.get("mscale") and given.get("mscale_all_dim"):
        upper, lower = (_number(given, key) for key in ("mscale", "mscale_all_dim"))
        numbers["attention_factor"] = _prescribed(numbers, upper) / _prescribed(numbers, lower)
    return numbers


def _yarn_from(values: Mapping[str, Any]) -> dict[str, float]:
    original = values.get("rope.scaling.original_context_length", values.get("context_length"))
    numbers = {
        "factor": _number(values, "rope.scaling.factor"),
        "original_max_position_embeddings": positive(
            original, "rope.scaling.original_context_length", MOST_TOKENS
        ),
    }
    if "rope.scaling.attn_factor" in values:
        scale = _number(values, "rope.scaling.attn_factor")
        numbers["attention_factor"] = scale * _prescribed(numbers)
    return numbers


def _prescribed(numbers: Mapping[str, float], scale: float = 1.0) -> float:
    """What YaRN multiplies cosine and sine by (its paper, equation 22)."""
    return 1.0 + 0.1 * scale * math.log(max(numbers["factor"], 1.0))


def shortest(value: float) -> float:
    """A number of 32 bits as it was written: 1e-05, not 9.999999747378752e-06."""
    with np.errstate(over="ignore"):  # one of 64 bits may become infinite, and is refused where it is used
        return float(str(np.float32(value)))


def positive(value: Any, what: str, most: float = MOST) -> float:
    """A number above 0 from somebody else's file, of a size that GGUF can hold.

    Args:
        value: Anything.
        what: What it is, for the message.
        most: What it must be below.

    Raises:
        ModelError: It is something else.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not LEAST < value < most:
        raise ModelError(f"{what} is {value!r:.40}, which is no number above 0 of a sensible size.")
    return float(value)


def _number(values: Mapping[str, Any], key: str, most: float = MOST) -> float:
    return positive(values.get(key), f"{key} of the rotary embedding", most)


def _refused(what: str) -> ModelError:
    return NotHandled(f"{what} is not turned into GGUF here.", hint=OTHER_TOOL)
