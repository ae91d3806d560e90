"""The tokenizer that `--tokenizer` names."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from redraft.weights.tokenizers.count import TokenCount

Tokenizer = Annotated[
    str,
    typer.Option(metavar="REF", help="A folder with tokenizer.json, or a model: 'default', a GGUF file …"),
]


def token_count(ref: str) -> TokenCount:
    """Return a token counter, after loading its tokenizer once to find faults early.

    Raises:
        UsageError: The reference names no tokenizer.
        MissingExtra: `tokenizers` is not installed.
        ModelError: The tokenizer is missing or damaged.
    """
    from redraft.weights.tokenizers.count import TokenCount

    count = TokenCount(_file_of(ref))
    count("")
    return count


def tokenizer_fingerprint(path: Path) -> dict[str, Any] | None:
    """Return name, bytes and SHA-256 of a tokenizer.json, rebuilt for a GGUF file."""
    from hashlib import sha256

    from redraft.jobs.provenance import fingerprint
    from redraft.weights.tokenizers.count import tokenizer_json

    if path.name == "tokenizer.json":
        return fingerprint([path])
    written = tokenizer_json(path).encode()
    return {"path": str(path), "bytes": len(written), "sha256": sha256(written).hexdigest()}


def _file_of(ref: str) -> Path:
    from redraft.engines.load import local_file, parse_reference
    from redraft.errors import UsageError

    path = Path(ref)
    found = path / "tokenizer.json" if path.is_dir() else path
    if found.name == "tokenizer.json" and found.is_file():
        return found
    named = None
    with suppress(UsageError):  # whose hint lists models without a tokenizer
        named = None if path.is_dir() else parse_reference(ref)
    if named is None or named.kind not in ("default", "gguf", "hub") or named.adapters:
        raise UsageError(
            f"{ref} has no tokenizer.json." if path.exists() else f"there is no tokenizer {ref!r:.120}.",
            hint="--tokenizer names a folder with one, a GGUF file, org/name on the hub, or 'default'.",
        )
    return local_file(named)
