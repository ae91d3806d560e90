"""Memory for large tensors: blocks of their own, which go back to the system when they are freed.

Left to itself glibc keeps what is freed, in a heap with holes of many sizes. Other allocators are left as
they are.
"""

from __future__ import annotations

import os

KERNELS = "128"
"""How many kernels oneDNN keeps. A step with an adapter needs about 30 for each number of tokens."""

_MMAP_THRESHOLD = -3
"""glibc's `M_MMAP_THRESHOLD` (malloc.h): from how many bytes on a block is mapped by itself. Setting it also
keeps glibc from raising it by what is freed."""


def give_back_large(least: int) -> None:
    """Lets blocks of at least so many bytes go back to the system as soon as they are freed."""
    import ctypes

    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_MMAP_THRESHOLD, least)


def keep_few_kernels() -> None:
    """Lets oneDNN keep the kernels of a step or two. It makes one for each shape it meets and keeps 1,024 of
    them; the rows of packed data have hundreds of lengths.

    It looks once, so this comes before torch is imported. Who has set it otherwise is left alone.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)


def use_large_pages() -> None:
    """Lets torch ask for large pages where a tensor fills them: mapping it anew is then cheap.

    Torch looks once, at its first tensor, so this comes before torch is imported. Who has set it otherwise is
    left alone.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
