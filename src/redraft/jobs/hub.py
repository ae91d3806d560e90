"""Fetch models and datasets from the Hugging Face hub, and raise redraft's errors.

Code in a repository is never fetched or run. Files are stored in the cache of huggingface_hub. Offline, only
the cache is used. `HF_HOME` sets the cache's folder, and `HF_ENDPOINT` sets the hub's address.

Configurations and splits of a dataset may share questions. If there are several, the user must choose.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatch
from glob import escape
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any, Literal, NamedTuple

from redraft.errors import ModelError, RedraftError, UsageError
from redraft.jobs.counting import size_in_words, tell
from redraft.jobs.files import sha256_of
from redraft.jobs.machine import free_memory

RepoKind = Literal["model", "dataset"]

_ERRORS: dict[RepoKind, type[RedraftError]] = {"model": ModelError, "dataset": UsageError}

PREFERRED = "Q4_K_M"  # the default quantisation, as in llama.cpp's own download

SAFE = ("*.safetensors",)
PICKLED = ("pytorch_model*.bin", "adapter_model.bin")
_BESIDE = ("*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt", "README.md")
_TERMS = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "USE_POLICY*")
_NEVER = ("*/*", "consolidated*")  # Meta's layout, a second copy of the weights in some repositories

_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_CARD = "README.md"
_SHARD = re.compile(r"(-\d{5}-of-\d{5})?(-[0-9a-f]{16})?(\.[a-z]+)+$")
"""Matches the shard number, hash and endings of a file name in the style of the `datasets` library."""

_EVALUATION = frozenset({"test", "tests", "validation", "valid", "val", "dev", "eval", "evaluation"})
_SHOWN = 12  # sets to name in an error


class _OutOfReach(Exception):
    """The hub cannot be reached."""


@dataclass(frozen=True)
class Cached:
    """A GGUF file in the cache: repository, name in the repository, path, and size in bytes."""

    repo: str
    name: str
    path: Path
    size: int


def choose(repo: str, files: Sequence[str], selects: str | None) -> list[str]:
    """Choose a GGUF file, with all parts. `selects` is a quantisation (Q4_K_M), a file name or None."""
    ggufs = sorted(name for name in files if _is_model(name))
    firsts = [name for name in ggufs if not (part := _PART.search(name)) or int(part[1]) == 1]
    wanted = selects or PREFERRED
    inside = re.compile(rf"(?:^|[-._/]){re.escape(wanted)}(?=[-._/])", re.IGNORECASE)
    whole = wanted.lower().endswith(".gguf")
    found = [name for name in firsts if (name == wanted if whole else inside.search(name))]
    if selects is None and len(firsts) == 1:
        found = firsts
    if not firsts:
        hint = "Look for this model's GGUF repository, often named …-GGUF."
        raise ModelError(f"{repo} has no GGUF file.", hint=hint)
    if len(found) != 1:
        wanted = f"{len(found) or 'no'} files for {selects!r}" if selects else "several GGUF files"
        hint = f"Name one of them: --model {repo}/{firsts[0]}"
        raise ModelError(f"{repo} has {wanted}. It has: {', '.join(firsts)}.", hint=hint)
    stem = _PART.sub("", found[0])
    return [name for name in ggufs if _PART.sub("", name) == stem] if stem != found[0] else found


FETCHING = Event()  # set while a file is being fetched, so that no line is drawn into its progress bar


@contextmanager
def fetching() -> Iterator[None]:
    """Set the event `FETCHING` during a `with` block, so that no progress line is drawn."""
    FETCHING.set()
    try:
        yield
    finally:
        FETCHING.clear()


def fetch(repo: str, selects: str | None, memory: int = 0) -> Path:
    """Fetch a GGUF file unless it is cached, and verify the checksum.

    Before a download, size and licence are printed, and a warning if the model needs more memory than is
    free. `memory` is the number of bytes that the model needs; 0 for the file's size.

    Raises:
        ModelError: The repository or file does not exist or is not accessible, the checksum is wrong, or the
            hub cannot be reached and the file is not cached.
    """
    from huggingface_hub import try_to_load_from_cache as in_cache

    try:
        with _asking(repo, "model"):
            info = _record(repo, "model", files_metadata=True)
            files = {file.rfilename: file for file in info.siblings or []}
            chosen = [files[name] for name in choose(repo, list(files), selects)]
            here = (in_cache(repo, file.rfilename, revision=info.sha) for file in chosen)
            if new := [file for file, path in zip(chosen, here, strict=True) if not isinstance(path, str)]:
                size = sum(file.size or 0 for file in new)
                names = ", ".join(file.rfilename for file in new)
                licence = _licence(info.card_data) or "unknown"
                tell(f"fetching {repo}/{names}: {size_in_words(size)}, licence {licence}.")
                if (wanted := memory or size) > (free := free_memory()):
                    needs = f"the model needs {size_in_words(wanted)} of memory"
                    tell(
                        f"{needs}, but {size_in_words(free)} are free.",
                        hint="Close other programs, or use a smaller model: redraft model list",
                    )
            with fetching() if new else nullcontext():
                paths = [_downloaded(repo, file, check=file in new) for file in chosen]
            return paths[0]
    except _OutOfReach as error:
        if (found := find(repo, selects)) is None:
            mark = "/" if (selects or "").lower().endswith(".gguf") else ":"
            then = f"Check the connection, then: redraft model get {repo}{mark + selects if selects else ''}"
            raise _out_of_reach(repo, error, then) from None
        return found


def _downloaded(repo: str, file: Any, *, check: bool) -> Path:
    from huggingface_hub import hf_hub_download

    path = Path(hf_hub_download(repo, file.rfilename, endpoint=_endpoint()))
    if check and file.lfs:
        found = sha256_of(path)
        if found != file.lfs.sha256:
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise ModelError(
                f"{repo}/{file.rfilename} arrived damaged: its sha256 is {found[:12]}…, but the hub's is "
                f"{file.lfs.sha256[:12]}….",
                hint=f"Fetch it again: redraft model get {repo}/{file.rfilename}",
            )
    return path


def fetch_folder(repo: str, *, pickle: bool = False) -> Path:
    """Fetch the weights, configuration and tokenizer of a model, weight delta or adapter, unless cached.

    Raises:
        ModelError: The repository does not exist, is not accessible or has no usable weights, or the hub
            cannot be reached and the files are not cached.
    """
    kinds = (SAFE, PICKLED) if pickle else (SAFE,)
    try:
        with _asking(repo, "model"):
            names = [file.rfilename for file in _record(repo, "model").siblings or []]
            if (kind := next((kind for kind in kinds if _holds(names, kind)), None)) is None:
                raise _no_weights(repo, names)
            return _snapshot(repo, kind)
    except _OutOfReach as error:
        if (found := _folder_here(repo, kinds)) is None:
            raise _out_of_reach(repo, error) from None
        return found


def fetch_card(repo: str) -> Path | None:
    """Fetch a model's card unless cached. Return the card's folder, or None if the card cannot be fetched."""
    from huggingface_hub import hf_hub_download

    try:
        with _asking(repo, "model"):
            return Path(hf_hub_download(repo, _CARD, endpoint=_endpoint())).parent
    except (_OutOfReach, ModelError):
        return None


def _record(name: str, kind: RepoKind, *, files_metadata: bool = False) -> Any:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=_endpoint())
    return api.repo_info(name, repo_type=kind, timeout=10, files_metadata=files_metadata)


def _snapshot(repo: str, weights: Sequence[str], *, here: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        repo,
        allow_patterns=[*_BESIDE, *_TERMS, *weights],
        ignore_patterns=list(_NEVER),
        endpoint=_endpoint(),
        local_files_only=here,
    )
    return Path(folder)


def _folder_here(repo: str, kinds: Sequence[Sequence[str]]) -> Path | None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    for kind in kinds:
        try:
            folder = _snapshot(repo, kind, here=True)
        except LocalEntryNotFoundError:
            continue
        if _holds([path.name for path in folder.iterdir()], kind):
            return folder
    return None


def _holds(names: Sequence[str], patterns: Sequence[str]) -> bool:
    kept = [name for name in names if not any(fnmatch(name, never) for never in _NEVER)]
    return any(fnmatch(name, pattern) for name in kept for pattern in patterns)


def find(repo: str, selects: str | None) -> Path | None:
    """Return the path of a GGUF file in the cache, or None. The network is not used."""
    here = {file.name: file.path for file in cached() if file.repo == repo}
    try:
        return here[choose(repo, list(here), selects)[0]]
    except ModelError:
        return None


def cached() -> Iterator[Cached]:
    """Yield all GGUF files in the cache of huggingface_hub, older revisions first."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return
    for repo in sorted(repos, key=lambda repo: repo.repo_id):
        for revision in sorted(repo.revisions, key=lambda revision: revision.last_modified):
            for file in sorted(revision.files, key=lambda file: file.file_path):
                name = file.file_path.relative_to(revision.snapshot_path).as_posix()
                if repo.repo_type == "model" and _is_model(name):
                    yield Cached(repo.repo_id, name, file.file_path, file.size_on_disk)


def _is_model(name: str) -> bool:
    return name.lower().endswith(".gguf") and "mmproj" not in name.lower()


def _no_weights(repo: str, names: Sequence[str]) -> ModelError:
    if _holds(names, PICKLED):
        hint = "If you trust the author, let torch's restricted loader read the files: --allow-pickle"
        return ModelError(f"{repo} has no safetensors, only .bin files, which are pickles.", hint=hint)
    if any(_is_model(name) for name in names):
        hint = f"redraft model get {repo}, and then: redraft weights from-gguf"
        return ModelError(f"{repo} has no safetensors, only GGUF files.", hint=hint)
    found = ", ".join(sorted(names)[:8]) or "nothing"
    return ModelError(f"{repo} has no weights in safetensors. It has: {found}.", hint="Name another repo.")


def _out_of_reach(repo: str, error: _OutOfReach, then: str = "Check the connection") -> ModelError:
    hint = f"{then}. Or name a file or folder on this machine."
    return ModelError(f"{repo} is not in the cache, and the hub cannot be reached: {error}", hint=hint)


class Dataset(NamedTuple):
    """The local files of a dataset."""

    folder: Path
    files: Sequence[str]
    licence: str | None
    revision: str
    offline: bool  # the hub could not be reached, and the files are from the cache


def is_dataset_name(text: str) -> bool:
    """Return whether a text has the form `org/name`."""
    return _NAME.fullmatch(text) is not None


def fetch_dataset(name: str, inside: str, endings: Sequence[str]) -> Dataset:
    """Fetch files of a dataset, unless cached.

    Args:
        name: `org/name`.
        inside: A folder, a file or the beginning of file names in the dataset. Empty means all files.
        endings: The file names' endings, such as `.jsonl`.
    """
    from huggingface_hub import snapshot_download

    try:
        with _asking(name, "dataset"):
            info = _record(name, "dataset")
    except _OutOfReach as error:
        return _cached(name, inside, endings, error)
    files = _chosen(name, inside, [file.rfilename for file in info.siblings or []], endings)
    patterns = [_CARD, *map(escape, files)]
    try:
        with _asking(name, "dataset"):
            how: Any = {"repo_type": "dataset", "allow_patterns": patterns, "endpoint": _endpoint()}
            folder = snapshot_download(name, **how)
    except _OutOfReach as error:
        hint = "Check the connection and try again: complete files are not fetched again."
        raise UsageError(f"{name} could not be fetched from the hub: {error}", hint=hint) from None
    return Dataset(Path(folder), files, _licence(info.card_data), Path(folder).name, offline=False)


def _cached(name: str, inside: str, endings: Sequence[str], error: _OutOfReach) -> Dataset:
    from huggingface_hub import DatasetCard, snapshot_download

    patterns = [f"{escape(inside)}*{ending}" for ending in endings]
    try:
        place = snapshot_download(name, repo_type="dataset", allow_patterns=patterns, local_files_only=True)
    except OSError:
        raise UsageError(
            f"{name} is neither a local path nor completely cached, and the hub cannot be reached: {error}",
            hint="Check the path or connection. Or import a copy of the files: redraft data import FOLDER",
        ) from None
    folder = Path(place)
    there = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    card = folder / _CARD
    licence = _licence(DatasetCard.load(card).data) if card.is_file() else None
    return Dataset(folder, _chosen(name, inside, there, endings), licence, folder.name, offline=True)


def _chosen(name: str, inside: str, there: Sequence[str], endings: Sequence[str]) -> list[str]:
    known = sorted(file for file in there if file.endswith(tuple(endings)) and not file.startswith("."))
    within = tuple(inside + mark for mark in "/-.")
    if not (files := [file for file in known if not inside or file == inside or file.startswith(within)]):
        what = f"no {inside!r}" if known else "no files of records"
        has = ", ".join((_sets(known) or list(there))[:_SHOWN]) or "nothing"
        hint = f"Files of records end in: {' '.join(endings)}"
        raise UsageError(f"{name} has {what}. It has: {has}.", hint=None if known else hint)
    for_evaluation = [file for file in files if _evaluates(file)]
    folders = {PurePosixPath(file).parent for file in files}
    if (for_evaluation and len(for_evaluation) < len(files)) or (not inside and len(folders) > 1):
        sets = _sets(files)
        one = next((each for each in sets if not _evaluates(each)), sets[0])
        more = f" and {len(sets) - _SHOWN:,} more" if len(sets) > _SHOWN else ""
        raise UsageError(
            f"{'/'.join(filter(None, (name, inside)))} has several sets of records: "
            f"{', '.join(sets[:_SHOWN])}{more}.",
            hint=f"Name the sets to train on: redraft data import {name}/{one}",
        )
    return files


def _evaluates(file: str) -> bool:
    return not _EVALUATION.isdisjoint(re.split(r"[^a-z]+", file.lower()))


def _sets(files: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(_SHARD.sub("", file) for file in files))


def _licence(card: Any) -> str | None:
    licence = getattr(card, "license", None)
    return ", ".join(map(str, licence)) if isinstance(licence, list) else licence


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


@contextmanager
def _asking(name: str, kind: RepoKind) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    no_reply: type[BaseException] = HfHubHTTPError.__bases__[0]  # base of the HTTP client's errors
    try:
        yield
    except HfHubHTTPError as error:
        status, failed = error.response.status_code, _ERRORS[kind]
        if status in (401, 403, 404):
            message = f"there is no file {name}, and the hub lacks this {kind} or denies access ({status})."
            hint = f"Check the name. For a gated {kind}, accept its terms on its page, then: hf auth login"
            raise failed(message, hint=hint) from None
        raise failed(f"the hub failed with status {status} for {name}.", hint="Try again later.") from None
    except HFValidationError as error:
        message = f"{name!r} is not a valid name of a {kind} on the hub: {error}"
        raise _ERRORS[kind](message, hint="Write it as org/name.") from None
    except (no_reply, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "Make room, or set HF_HOME to a folder on another disk."
            raise _ERRORS[kind](f"the disk is full: no room for {name}.", hint=hint) from None
        raise _OutOfReach(str(error)) from None
