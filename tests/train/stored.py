"""Prepared data of arbitrary examples, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from redraft.train.prepare import DataReport, Prepared, Writer, open_prepared, pair


def stored(folder: Path, lengths: Sequence[int]) -> Prepared:
    """Examples of these lengths. Example n has the ids 1000 n, 1000 n + 1…

    The second half of each is trained on.
    """
    folder.mkdir()
    writer = Writer(folder)
    for number, length in enumerate(lengths):
        ids = 1000 * number + np.arange(length)
        writer.add([f"data/{number}"], [length], pair(ids, np.arange(length) >= length // 2))
    writer.finish("key", DataReport(records=len(lengths), examples=len(lengths)))
    return open_prepared(folder, "key")
