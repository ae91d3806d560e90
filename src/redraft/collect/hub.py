"""Datasets of the Hugging Face hub, fetched as files and never run: loading scripts stay where they are.

Files lie in the cache of huggingface_hub, which other programs share; `HF_HOME` moves it and `HF_ENDPOINT`
names another hub. The licence is what the dataset's own card says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redraft.errors import UsageError

_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)


def is_name(text: str) -> bool:
    """Whether a text has the form of a dataset's name on the hub, `org/name`."""
    return _NAME.fullmatch(text) is not None


def fetch(name: str, endings: Sequence[str]) -> tuple[Path, str | None]:
    """The folder of a dataset's files, fetched unless they are in the cache, and the licence on its card.

    Args:
        name: `org/name`.
        endings: Of the files that are wanted, with or without the ending of a compression.

    Raises:
        UsageError: There is no such dataset, no file of those in it, no permission to it, or no connection.
    """
    from huggingface_hub import HfApi, snapshot_download

    endpoint = os.environ.get("HF_ENDPOINT")
    with _asking(name):
        about = HfApi(endpoint=endpoint).dataset_info(name, timeout=10)
        files = [each.rfilename for each in about.siblings or []]
        wanted = [f"{ending}{packed}" for ending in endings for packed in ("", ".gz", ".zst")]
        if not any(file.endswith(tuple(wanted)) for file in files):
            raise UsageError(
                f"{name} has no files of records on the hub. It has: {', '.join(files[:8]) or 'nothing'}.",
                hint=f"Those end in: {' '.join(endings)}, and may be .gz or .zst.",
            )
        folder = snapshot_download(
            name,
            repo_type="dataset",
            revision=about.sha,
            allow_patterns=[f"*{ending}" for ending in wanted],
            endpoint=endpoint,
        )
    return Path(folder), _licence(about)


def _licence(about: Any) -> str | None:
    said = getattr(about.card_data, "license", None)
    return ", ".join(map(str, said)) if isinstance(said, list) else said


@contextmanager
def _asking(name: str) -> Iterator[None]:
    """Turns what huggingface_hub raises into errors of ours."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    no_reply: type[BaseException] = HfHubHTTPError.__bases__[0]  # of the HTTP client that this version uses
    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(name, error.response.status_code) from None
    except HFValidationError:
        raise UsageError(f"{name!r} is no file or folder, and no name of the hub.") from None
    except (no_reply, OSError) as error:
        raise UsageError(
            f"{name} is no file or folder here, and the hub cannot be reached: {error}",
            hint="Check the path, or the connection.",
        ) from None


def _refused(name: str, status: int) -> UsageError:
    if status in (401, 403, 404):
        return UsageError(
            f"{name} is no file or folder here, and on the hub there is no such dataset or you have no "
            f"permission to it ({status}).",
            hint="Check the path. For a gated dataset, accept its terms on its page, then: hf auth login",
        )
    return UsageError(f"the hub fails ({status}) for {name}.", hint="Try again later.")
