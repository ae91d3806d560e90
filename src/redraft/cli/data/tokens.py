"""Count tokens with the tokenizer that `--tokenizer` names.

A tokenizer.json is used directly. For a GGUF file, such as the default model, the tokenizer is rebuilt from
its vocabulary. Only texts are counted, without chat template or special tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import typer

Tokenizer = Annotated[
    str,
    typer.Option(metavar="REF", help="A folder with tokenizer.json, or a model: 'default', a GGUF file …"),
]

_PART = 1 << 16  # characters per call: a record of 50 MB would take gigabytes


@dataclass(frozen=True)
class TokenCount:
    """Count tokens. Each process loads the tokenizer at its first count.

    A text over 65,536 characters is counted in parts, which may add a token at each cut.

    Attributes:
        path: A tokenizer.json, or a GGUF file.
    """

    path: Path

    def __call__(self, text: str) -> int:
        """Return the number of tokens in a text.

        Raises:
            MissingExtra: `tokenizers` is not installed.
            ModelError: The tokenizer is damaged.
        """
        count = _loaded(self.path)
        return sum(count(text[i : i + _PART]) for i in range(0, len(text), _PART))


def token_count(ref: str) -> TokenCount:
    """Return a token counter, after loading its tokenizer once to find faults early.

    Raises:
        UsageError: The reference names no tokenizer.
        MissingExtra: `tokenizers` is not installed.
        ModelError: The tokenizer is missing or damaged.
    """
    count = TokenCount(_file_of(ref))
    count("")
    return count


def tokenizer_fingerprint(path: Path) -> dict[str, Any] | None:
    """Return name, bytes and SHA-256 of a tokenizer.json, rebuilt for a GGUF file."""
    from hashlib import sha256

    from redraft.jobs.provenance import fingerprint

    if path.name == "tokenizer.json":
        return fingerprint([path])
    written = _written(path).encode()
    return {"path": str(path), "bytes": len(written), "sha256": sha256(written).hexdigest()}


def _file_of(ref: str) -> Path:
    from redraft.engines.load import local_file, parse_reference
    from redraft.errors import UsageError

    path = Path(ref)
    found = path / "tokenizer.json" if path.is_dir() else path
    if found.name == "tokenizer.json" and found.is_file():
        return found
    named = parse_reference(ref) if not path.is_dir() else None
    if named is None or named.kind not in ("default", "gguf", "hub") or named.adapters:
        raise UsageError(
            f"{ref} has no tokenizer.json.",
            hint="--tokenizer names a folder with one, a GGUF file, or 'default'.",
        )
    return local_file(named)


@lru_cache(maxsize=1)
def _loaded(path: Path) -> Callable[[str], int]:
    from redraft.cli.data.chunks import Chunks, blank_of

    tokenizer = _tokenizer(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    blank = blank_of(tokenizer)
    if blank:
        return Chunks(tokenizer, blank).count
    # This batch call skips token offsets, a sixth of the work.
    return lambda text: len(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0])


def _tokenizer(path: Path) -> Any:
    from redraft.errors import MissingExtra, ModelError

    try:
        import tokenizers
    except ModuleNotFoundError:
        raise MissingExtra("counting tokens", "data") from None
    written = None if path.name == "tokenizer.json" else _written(path)
    try:
        kind = tokenizers.Tokenizer
        return kind.from_str(written) if written else kind.from_file(str(path))
    except Exception as error:  # noqa: BLE001  (the library raises no other)
        raise ModelError(f"{path}: its tokenizer cannot be loaded: {error}.") from None


def _written(path: Path) -> str:
    """Return a GGUF file's tokenizer as tokenizer.json."""
    from tempfile import TemporaryDirectory

    from redraft.weights.gguf.reader import read_header
    from redraft.weights.tokenizers.from_gguf import write_tokenizer

    with TemporaryDirectory(prefix="redraft-") as folder:
        write_tokenizer(read_header(path, whole=True).metadata, Path(folder))
        return (Path(folder) / "tokenizer.json").read_text("utf-8")
