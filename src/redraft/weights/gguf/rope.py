"""Converts rotary embeddings and their scaling between `rope_parameters` of config.json and GGUF.

Three scalings are supported. GGUF stores linear and YaRN scaling as keys, and Llama 3's as a tensor of
divisors, one per frequency; to convert it back, known values of its four numbers are tried until they give
the same tensor. Other scalings (dynamic, longrope) and partial rotary embeddings are refused.

Sources: transformers' modeling_rope_utils.py; llama.cpp's conversion/base.py, conversion/llama.py and, for
the attention factor, src/llama-context.cpp.
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

THETA = 10000.0  # the default base: `default_theta` of transformers, and llama.cpp's

LEAST, MOST = 1e-37, 1e37
"""The range in which float32 has its full precision."""

MOST_TOKENS = 1 << 31

# YaRN's default bounds, in rotations over the original context: llama.cpp supports no others here.
_BOUNDS = {"beta_fast": 32, "beta_slow": 1}
_LLAMA3_KEYS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


@dataclass(frozen=True)
class Rope:
    """Base and scaling of a rotary embedding.

    Attributes:
        kind: `default`, `linear`, `yarn` or `llama3`.
        numbers: The scaling's numbers, named as in `rope_parameters`.
    """

    theta: float
    kind: str = "default"
    numbers: Mapping[str, float] = field(default_factory=dict)


def rope_from_config(config: Mapping[str, Any], family: Family, head: int) -> Rope:
    """Read `rope_parameters`, or `rope_theta` and `rope_scaling` in older files."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, Mapping):
        raise ModelError(f"config.json has rope_parameters {given!r:.60}, which is not an object.")
    theta = _number({"rope_theta": config.get("rope_theta", THETA), **given}, "rope_theta")
    kind = given.get("rope_type", given.get("type", "default"))
    part = given.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if part not in (None, 1):
        raise _refused(f"a partial rotary embedding ({part!r:.20})")
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
    """Return `rope_parameters` for config.json."""
    whole = {key: int(n) if key.startswith("original") else n for key, n in rope.numbers.items()}
    return {"rope_type": rope.kind, "rope_theta": rope.theta, **whole}


def rope_metadata(rope: Rope) -> dict[str, int | float | str]:
    """Return GGUF's keys, without the prefix of the architecture. Llama 3's scaling has no key."""
    keys: dict[str, int | float | str] = {"rope.freq_base": rope.theta}
    if rope.kind in ("linear", "yarn"):
        keys |= {"rope.scaling.type": rope.kind, "rope.scaling.factor": rope.numbers["factor"]}
    if rope.kind == "yarn":
        keys["rope.scaling.original_context_length"] = int(rope.numbers["original_max_position_embeddings"])
        if "attention_factor" in rope.numbers:
            # In llama.cpp the factor multiplies YaRN's own; in transformers it replaces that.
            keys["rope.scaling.attn_factor"] = rope.numbers["attention_factor"] / _prescribed(rope.numbers)
    return keys


def rope_from_metadata(values: Mapping[str, Any], factors: tuple[float, ...], head: int) -> Rope:
    """Read GGUF's keys, without the prefix of the architecture, and the divisors of `rope_freqs.weight`."""
    theta = _number({"rope.freq_base": THETA, **values}, "rope.freq_base")
    kind = values.get("rope.scaling.type", "none")
    if not all(0 < factor < math.inf for factor in factors):
        raise ModelError("the GGUF file has a rope_freqs.weight with values that are not positive numbers.")
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
        f"the GGUF file has rotary scaling of the kind {kind!r:.40}, which cannot be converted to a folder."
    )


def rope_factors(rope: Rope, head: int) -> list[float]:
    """Return Llama 3's head / 2 divisors of the frequencies: 1 for high ones, `factor` for low ones."""
    factor, low, high, original = (rope.numbers[key] for key in _LLAMA3_KEYS)
    if not low < high:
        raise ModelError(
            f"config.json has low_freq_factor {low:g}, which is not below high_freq_factor {high:g}."
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
    """Find the numbers that give the divisors: any factor, 1 and 4 as in every Llama 3, and a context."""
    for original in (8192, *(1 << bits for bits in range(6, 21))):
        numbers = dict(zip(_LLAMA3_KEYS, (max(factors), 1.0, 4.0, original), strict=True))
        made = rope_factors(Rope(theta, "llama3", numbers), head)
        if np.shape(made) == np.shape(factors) and np.allclose(made, factors, rtol=1e-5):
            return numbers
    raise NotHandled(
        "the GGUF file has a rope_freqs.weight that is not Llama 3's, which cannot be converted to a folder."
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
    """Return YaRN's factor for cosine and sine (its paper, equation 22)."""
    return 1.0 + 0.1 * scale * math.log(max(numbers["factor"], 1.0))


def shortest(value: float) -> float:
    """Return the shortest decimal that rounds to a float32: 1e-05, not 9.999999747378752e-06."""
    with np.errstate(over="ignore"):  # a float64 may become infinite, and is refused later
        return float(str(np.float32(value)))


def positive(value: Any, what: str, most: float = MOST) -> float:
    """Return an untrusted value as a float, if it is a positive number below `most`. Errors call it `what`."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not LEAST < value < most:
        raise ModelError(f"{what} is {value!r:.40}, which is not a positive number of a sensible size.")
    return float(value)


def _number(values: Mapping[str, Any], key: str) -> float:
    return positive(values.get(key), f"{key} of the rotary embedding")


def _refused(what: str) -> ModelError:
    return NotHandled(f"{what} cannot be converted to GGUF.", hint=OTHER_TOOL)
