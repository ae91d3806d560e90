"""Check that settings fit the model and this machine, before anything is loaded.

A context that is too long takes memory without notice, and a model writes noise beyond the length that it was
trained for. The header of the model file is enough to know both.
"""

from __future__ import annotations

import os
from pathlib import Path

from redraft.engines.local import DEFAULT_CONTEXT
from redraft.errors import ModelError, UsageError
from redraft.machine import free_memory
from redraft.weights.gguf.reader import GGUFHeader

MAX_THREADS = 512
"""Most threads of llama.cpp (GGML_MAX_N_THREADS in ggml.h); more end the process."""

CACHE_BYTES = 2
"""Bytes of a number in the key-value cache, which llama.cpp keeps in f16."""


def check_settings(*, ctx: int | None, threads: int | None, parallel: int) -> None:
    """Refuse numbers that no engine on this machine can use.

    Raises:
        UsageError: A number is out of range.
    """
    cores = os.cpu_count() or 1
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UsageError(
            f"--threads is {threads}; it must be 1 to {MAX_THREADS}.",
            hint=f"This machine has {cores} processors: --threads {cores}, or leave it out.",
        )
    if ctx is not None and ctx < 1:
        raise UsageError(f"--ctx is {ctx}; it must be 1 or more.", hint="Leave it out for 4,096.")
    if parallel < 1:
        raise UsageError(f"--parallel is {parallel}; it must be 1 or more.", hint="--parallel 1")


def context_of(model: Path, asked: int | None, trained: int | None) -> int:
    """Return the tokens that a chain may fill.

    Args:
        model: For the message.
        asked: The user's choice; None for 4,096 or the trained length, whichever is less.
        trained: The length that the model was trained for; None if its files do not say.

    Raises:
        UsageError: `asked` is more than the model was trained for.
    """
    if asked is not None and trained is not None and asked > trained:
        raise UsageError(
            f"--ctx is {asked}, and {model} was trained for contexts of {trained} tokens.",
            hint=f"--ctx {trained}",
        )
    return asked or min(DEFAULT_CONTEXT, trained or DEFAULT_CONTEXT)


def trained_context(header: GGUFHeader) -> int | None:
    """Return the length that a GGUF model was trained for, in tokens; None if its header does not say."""
    return header.number(f"{header.text('general.architecture')}.context_length") or None


def check_memory(model: Path, header: GGUFHeader, context: int, parallel: int) -> None:
    """Refuse a key-value cache that is larger than the free memory.

    Raises:
        ModelError: The cache is larger; the message has both sizes, the hint a context that fits.
    """
    token = cache_bytes(header) * parallel
    free = free_memory()
    if token * context <= free:
        return
    fits = max(free // token // 2, 1)
    streams = f" for each of {parallel} streams" if parallel > 1 else ""
    raise ModelError(
        f"a context of {context} tokens{streams} needs {_gigabytes(token * context)} of memory with {model},"
        f" and {_gigabytes(free)} are free.",
        hint=f"--ctx {fits}" + (", or fewer streams: --parallel 1" if parallel > 1 else ""),
    )


def cache_bytes(header: GGUFHeader) -> int:
    """Estimate the bytes of the key-value cache for one token: keys and values of every layer, in f16.

    Return 0 where the header does not say enough, or where layers see a window of the context only.
    """
    architecture = header.text("general.architecture")

    def number(key: str) -> int:
        return header.number(f"{architecture}.{key}") or 0

    if number("attention.sliding_window"):
        return 0
    heads = number("attention.head_count")
    size = number("embedding_length") // heads if heads else 0
    keys, values = (number(f"attention.{part}_length") or size for part in ("key", "value"))
    of_layers = header.metadata.get(f"{architecture}.attention.head_count_kv")
    if isinstance(of_layers, tuple):  # one number a layer; 0 for a layer without attention
        cached = sum(count for count in of_layers if isinstance(count, int))
    else:
        cached = number("block_count") * (number("attention.head_count_kv") or heads)
    return cached * (keys + values) * CACHE_BYTES


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
