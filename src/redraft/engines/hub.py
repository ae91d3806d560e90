"""Models of the Hugging Face hub: choose, fetch, find and remove GGUF files; fetch folders.

Only weights, configuration and tokenizer of a folder are fetched, never code. `redraft.hub` asks the hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from redraft.errors import ModelError
from redraft.hub import OutOfReach, asking, endpoint

PREFERRED = "Q4_K_M"
"""The default quantisation, as in llama.cpp's own download."""

SAFE = ("*.safetensors",)
PICKLED = ("pytorch_model*.bin", "adapter_model.bin")
_BESIDE = ("*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt", "README.md")
_TERMS = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "USE_POLICY*")
_NEVER = ("*/*", "consolidated*")  # Meta's layout, a second copy of the weights in some repositories

_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)


@dataclass(frozen=True)
class Cached:
    """A GGUF file in the cache: its repository, its name there, its path on this disk, and its bytes."""

    repo: str
    name: str
    path: Path
    size: int


def choose(repo: str, files: Sequence[str], selects: str | None) -> list[str]:
    """Return the chosen file, or all of its parts in order.

    Args:
        repo: The repository, for messages.
        files: All files of the repository.
        selects: A quantisation such as `Q4_K_M`, a file, or None for `PREFERRED` or the only file.

    Raises:
        ModelError: No file fits, or several; the message lists the files.
    """
    ggufs = sorted(name for name in files if _is_model(name))
    firsts = [name for name in ggufs if not (part := _PART.search(name)) or int(part[1]) == 1]
    found = [name for name in firsts if _matches(name, selects or PREFERRED)]
    if selects is None and len(firsts) == 1:
        found = firsts
    if len(found) != 1:
        raise _not_one(repo, firsts, selects)
    stem = _PART.sub("", found[0])
    return [name for name in ggufs if _PART.sub("", name) == stem] if stem != found[0] else found


def fetch(repo: str, selects: str | None) -> Path:
    """Fetch a GGUF file unless it is cached; huggingface_hub shows the progress.

    Returns:
        The file, or its first part.

    Raises:
        ModelError: No such repository or file, no permission, or no connection and nothing cached.
    """
    from huggingface_hub import hf_hub_download

    try:
        with asking(repo, "model"):
            names = choose(repo, _listed(repo), selects)
            paths = [hf_hub_download(repo, name, endpoint=endpoint()) for name in names]
            return Path(paths[0])
    except OutOfReach as error:
        found = find(repo, selects)
        if found is None:
            raise _out_of_reach(repo, error) from None
        return found


def fetch_folder(repo: str, *, pickle: bool = False) -> Path:
    """Fetch weights, configuration and tokenizer of a model, delta or adapter, unless they are cached.

    Args:
        repo: `org/name`.
        pickle: Accept `.bin` files where there are no safetensors.

    Returns:
        The folder in the cache.

    Raises:
        ModelError: No such repository, no usable weights in it, no permission, or no connection and nothing
            cached.
    """
    kinds = (SAFE, PICKLED) if pickle else (SAFE,)
    try:
        with asking(repo, "model"):
            names = _listed(repo)
            kind = next((kind for kind in kinds if _holds(names, kind)), None)
            if kind is None:
                raise _no_weights(repo, names)
            return _snapshot(repo, kind)
    except OutOfReach as error:
        found = _folder_here(repo, kinds)
        if found is None:
            raise _out_of_reach(repo, error) from None
        return found


def _listed(repo: str) -> list[str]:
    """List the files of a repository."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint())
    return [file.rfilename for file in api.model_info(repo, timeout=10).siblings or []]


def _snapshot(repo: str, weights: Sequence[str], *, here: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            repo,
            allow_patterns=[*_BESIDE, *_TERMS, *weights],
            ignore_patterns=list(_NEVER),
            endpoint=endpoint(),
            local_files_only=here,
        )
    )


def _folder_here(repo: str, kinds: Sequence[Sequence[str]]) -> Path | None:
    """Return the cached folder if it is complete, without using the network."""
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
    """Return the cached file, without using the network."""
    here = {file.name: file.path for file in cached() if file.repo == repo}
    try:
        return here[choose(repo, list(here), selects)[0]]
    except ModelError:
        return None


def remove(repo: str, selects: str | None) -> int:
    """Remove a GGUF file, or all GGUF files of a repository, from the cache. Return the bytes freed."""
    here = [file for file in cached() if file.repo == repo]
    names = [file.name for file in here]
    chosen = choose(repo, names, selects) if selects else names
    freed = 0
    for file in here:
        if file.name in chosen:
            blob = file.path.resolve()  # the cache holds the bytes in blobs, and links to them
            freed += file.size if blob.exists() else 0
            blob.unlink(missing_ok=True)
            file.path.unlink(missing_ok=True)
    return freed


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
    """Return whether a file is a language model, and not the projector of a vision model."""
    return name.lower().endswith(".gguf") and "mmproj" not in name.lower()


def _matches(name: str, selects: str) -> bool:
    if selects.lower().endswith(".gguf"):
        return name == selects
    return re.search(rf"(?:^|[-._/]){re.escape(selects)}(?=[-._/])", name, re.IGNORECASE) is not None


def _not_one(repo: str, firsts: Sequence[str], selects: str | None) -> ModelError:
    if not firsts:
        return ModelError(
            f"{repo} has no GGUF file.", hint="Look for a repository of the same model named …-GGUF."
        )
    wanted = f"no single file for {selects!r}" if selects else "several GGUF files"
    return ModelError(
        f"{repo} has {wanted}. It has: {', '.join(firsts)}.", hint=f"--model {repo}/{firsts[0]}"
    )


def _no_weights(repo: str, names: Sequence[str]) -> ModelError:
    if _holds(names, PICKLED):
        return ModelError(
            f"{repo} has no safetensors, only .bin files, which are pickles.",
            hint="If you trust who made them: --allow-pickle (they are read by torch's restricted loader).",
        )
    if any(_is_model(name) for name in names):
        return ModelError(
            f"{repo} has no safetensors, only GGUF files.",
            hint=f"redraft model get {repo}, and then: redraft weights from-gguf",
        )
    found = ", ".join(sorted(names)[:8]) or "nothing"
    return ModelError(
        f"{repo} has no weights in safetensors. It has: {found}.", hint="Name another repository."
    )


def _out_of_reach(repo: str, error: OutOfReach) -> ModelError:
    return ModelError(
        f"{repo} is not in the cache, and the hub cannot be reached: {error}",
        hint="Check the connection, or name a file or folder on this machine.",
    )
