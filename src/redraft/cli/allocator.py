"""Return the memory of large tensors to the system when they are freed.

By default glibc keeps freed memory in a fragmented heap. Other allocators are not changed.
"""

from __future__ import annotations

import os

KERNELS = "128"
"""Kernels that oneDNN caches. A step with an adapter needs about 30 for each number of tokens."""

_MMAP_THRESHOLD = -3
"""glibc's `M_MMAP_THRESHOLD` (malloc.h): the size in bytes from which a block gets its own mapping. Once set,
glibc no longer raises it by itself."""


def give_back_large(least: int) -> None:
    """Return blocks of at least `least` bytes to the system as soon as they are freed."""
    import ctypes

    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_MMAP_THRESHOLD, least)


def keep_few_kernels() -> None:
    """Let oneDNN cache the kernels of a step or two instead of 1,024.

    It makes one for each shape, and rows of packed data have hundreds of lengths. Call this before torch is
    imported. A value that the user has set is kept.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)


def use_large_pages() -> None:
    """Let torch ask for large pages for large tensors, which makes mapping them cheap.

    Call this before torch is imported. A value that the user has set is kept.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
