"""Push a file of records to the Hugging Face hub, as a dataset with a card.

The file goes as it is: `redraft data export` changes its format before. The card says what is in it, how
much, and under which licences. Hub and login are those of huggingface_hub.
"""

from __future__ import annotations

from pathlib import Path

from redraft import __version__
from redraft.chain.read.inputs import check_records
from redraft.checks.segment import count_words
from redraft.data.report import DataReport, describe, lines
from redraft.errors import UsageError
from redraft.jobs import hub
from redraft.jobs.licences import UNKNOWN, Source, remark
from redraft.weights.card import card_text


def push(file: str | Path, name: str, *, public: bool = False) -> tuple[str, str]:
    """Push records to the hub. As `redraft data push`.

    Args:
        file: Records of any known shape.
        name: The dataset, as `org/name`. It is made if it is not there, private unless `public`.

    Returns:
        Its address, and what should be known of its licences; empty if there is nothing.

    Raises:
        UsageError: The name is none, nobody is logged in, the hub refuses or cannot be reached, or the
            dataset is public already and `public` is not set.
        RecordError: The file cannot be read.
    """
    path = Path(file)
    if not hub.is_dataset_name(name):
        raise UsageError(f"{name!r:.80} is no name of a dataset.", hint="It should be org/name.")
    check_records(path)
    report = describe([path], count_words, samples=0)
    sources = [Source("file", path.name, licence) for licence in report.licences or [UNKNOWN]]
    files: dict[str, Path | bytes] = {hub.CARD: _card(name, report, sources).encode(), path.name: path}
    return hub.publish(name, files, private=not public), remark(sources)


def _card(name: str, report: DataReport, sources: list[Source]) -> str:
    """Return the card: licences in the hub's form, then what is in the file, and how to load it."""
    made = f'Made with redraft {__version__}. To load it: `datasets.load_dataset("{name}")`, or'
    counts = lines(report, warnings=False)  # these name paths of this machine
    head = [card_text(name.partition("/")[2], sources), remark(sources), ""]
    return "\n".join([*head, "```text", *counts, "```", "", f"{made} `redraft data import {name}`."]) + "\n"
