"""What the commands of `redraft data` share: their flags, and the tokenizer that `--tokenizer` names."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from redraft.cli.shell import argument, flag, setting, switch

if TYPE_CHECKING:
    from redraft.data.output import DataOptions
    from redraft.weights.tokenizers.from_gguf import TokenCount


Source = Annotated[
    Path, argument("FILE", "Records of any known shape, as JSON lines or a JSON array; '-' is stdin.")
]
Workers = Annotated[int | None, flag("N", "Processes.  [all cores]", "--workers", "-j", min=1)]
Strict = Annotated[bool, switch("Stop at a record that cannot be read.", "--strict")]
Force = Annotated[bool, switch("Replace the output if it exists.", "--force")]


@dataclass(frozen=True)
class Flags:
    """The options of every command that writes chains."""

    out: Annotated[Path, setting("FILE", "Where the chains go; '-' is stdout.", "--out", "-o")] = Path("-")
    dropped: Annotated[Path | None, flag("FILE", "Keep dropped records, with the reason.")] = None
    workers: Workers = None
    strict: Strict = False
    force: Force = False
    quiet: Annotated[bool, switch("No progress, and no counts at the end.", "--quiet", "-q")] = False

    @property
    def options(self) -> DataOptions:
        """The options of the functions that do the work, other than `out`."""
        return cast("DataOptions", {name: value for name, value in vars(self).items() if name != "out"})


Tokenizer = Annotated[
    str, setting("REF", "A folder with tokenizer.json, or a model: 'default', a GGUF file …")
]


def token_count(ref: str) -> TokenCount:
    """Return a token counter, after loading its tokenizer once to find faults early."""
    from redraft.weights.tokenizers.from_gguf import TokenCount

    count = TokenCount(_file_of(ref))
    count("")
    return count


def tokenizer_fingerprint(path: Path) -> dict[str, Any] | None:
    """Return name, bytes and SHA-256 of a tokenizer.json, rebuilt for a GGUF file."""
    from hashlib import sha256

    from redraft.jobs.provenance import fingerprint
    from redraft.weights.tokenizers.from_gguf import tokenizer_json

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
