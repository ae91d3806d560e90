"""Models of the Hugging Face hub: which GGUF file is meant, fetching it, finding it again; and whole folders.

Files lie in the cache of huggingface_hub, which other programs share; `HF_HOME` moves it and `HF_ENDPOINT`
names another hub. Of a folder only weights, configuration and tokenizer are fetched: never code.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from redraft.errors import ModelError

PREFERRED = "Q4_K_M"
"""The quantisation that is taken where none is named; llama.cpp's own download takes the same."""

SAFE = ("*.safetensors",)
PICKLED = ("pytorch_model*.bin", "adapter_model.bin")
_BESIDE = ("*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt", "README.md")
_TERMS = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "USE_POLICY*")
_NEVER = ("*/*", "consolidated*")  # Meta's own layout, which some repositories hold a second time

_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)


@dataclass(frozen=True)
class Cached:
    """A GGUF file in the cache: its repository, its name there, its path on this disk, and its bytes."""

    repo: str
    name: str
    path: Path
    size: int


def choose(repo: str, files: Sequence[str], selects: str | None) -> list[str]:
    """The file that is meant, or all parts of it in order.

    Args:
        repo: The repository, for messages.
        files: All that it has.
        selects: A quantisation such as `Q4_K_M`, a file, or None for `PREFERRED` or the only file there is.

    Raises:
        ModelError: None of them, or several; the message lists what there is.
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
    """Fetches a GGUF file, unless it is in the cache already; huggingface_hub shows the progress.

    Returns:
        The file, or its first part.

    Raises:
        ModelError: No such repository or file, no permission, or no connection and nothing in the cache.
    """
    from huggingface_hub import hf_hub_download

    try:
        with _asking(repo):
            names = choose(repo, _listed(repo), selects)
            paths = [hf_hub_download(repo, name, endpoint=os.environ.get("HF_ENDPOINT")) for name in names]
            return Path(paths[0])
    except _OutOfReach:
        found = find(repo, selects)
        if found is None:
            raise
        return found


def fetch_folder(repo: str, *, pickle: bool = False) -> Path:
    """Fetches weights, configuration and tokenizer of a model, a delta or an adapter, unless they are here.

    Args:
        repo: `org/name`.
        pickle: Whether `.bin` files will do where there are no safetensors.

    Returns:
        The folder in the cache.

    Raises:
        ModelError: No such repository, no weights of these forms in it, no permission, or no connection and
            nothing in the cache.
    """
    kinds = (SAFE, PICKLED) if pickle else (SAFE,)
    try:
        with _asking(repo):
            names = _listed(repo)
            kind = next((kind for kind in kinds if _holds(names, kind)), None)
            if kind is None:
                raise _no_weights(repo, names)
            return _snapshot(repo, kind)
    except _OutOfReach:
        found = _folder_here(repo, kinds)
        if found is None:
            raise
        return found


def _listed(repo: str) -> list[str]:
    """Names of all files that a repository has."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    return [each.rfilename for each in api.model_info(repo, timeout=10).siblings or []]


def _snapshot(repo: str, weights: Sequence[str], *, here: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            repo,
            allow_patterns=[*_BESIDE, *_TERMS, *weights],
            ignore_patterns=list(_NEVER),
            endpoint=os.environ.get("HF_ENDPOINT"),
            local_files_only=here,
        )
    )


def _folder_here(repo: str, kinds: Sequence[Sequence[str]]) -> Path | None:
    """The folder if all that is wanted of it is in the cache, without a look at the network."""
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
    """The file if it is in the cache, without a look at the network."""
    here = {each.name: each.path for each in cached() if each.repo == repo}
    try:
        return here[choose(repo, list(here), selects)[0]]
    except ModelError:
        return None


def remove(repo: str, selects: str | None) -> int:
    """Removes a GGUF file from the cache, or all those of a repository. Returns the bytes freed."""
    here = [each for each in cached() if each.repo == repo]
    names = choose(repo, [each.name for each in here], selects) if selects else [each.name for each in here]
    freed = 0
    for each in here:
        if each.name in names:
            blob = each.path.resolve()  # the cache keeps the bytes apart, and links to them
            freed += each.size if blob.exists() else 0
            blob.unlink(missing_ok=True)
            each.path.unlink(missing_ok=True)
    return freed


def cached() -> Iterator[Cached]:
    """All GGUF files in the cache of huggingface_hub, older revisions first."""
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


class _OutOfReach(ModelError):
    """The hub cannot be reached, and what is in the cache has to do."""


@contextmanager
def _asking(repo: str) -> Iterator[None]:
    """Turns what huggingface_hub raises into errors of ours."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    no_reply: type[BaseException] = HfHubHTTPError.__bases__[0]  # of the HTTP client that this version uses
    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(repo, error.response.status_code) from None
    except HFValidationError as error:
        raise ModelError(f"{repo!r} is no name of a model on the hub: {error}", hint="org/name") from None
    except (no_reply, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "Free some room, or keep the cache on another disk with HF_HOME."
            raise ModelError(f"there is no room on the disk for {repo}.", hint=hint) from None
        raise _out_of_reach(repo, error) from None


def _is_model(name: str) -> bool:
    """Whether a file is a language model, and not the projector of a vision model."""
    return name.lower().endswith(".gguf") and "mmproj" not in name.lower()


def _matches(name: str, selects: str) -> bool:
    if selects.lower().endswith(".gguf"):
        return name == selects
    return re.search(rf"(?:^|[-._/]){re.escape(selects)}(?=[-._/])", name, re.IGNORECASE) is not None


def _not_one(repo: str, firsts: Sequence[str], selects: str | None) -> ModelError:
    if not firsts:
        return ModelError(
            f"{repo} has no GGUF file.", hint="Many models have theirs in another repository, named …-GGUF."
        )
    wanted = f"no file or several for {selects!r}" if selects else "several GGUF files"
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


def _refused(repo: str, status: int) -> ModelError:
    if status in (401, 403, 404):
        return ModelError(
            f"there is no model {repo} on the hub, or you have no permission to it ({status}), "
            "and no file of that name.",
            hint="Check the name. For a gated model, accept its terms on its page, then: hf auth login",
        )
    return ModelError(f"the hub fails ({status}) for {repo}.", hint="Try again later.")


def _out_of_reach(repo: str, error: BaseException) -> _OutOfReach:
    return _OutOfReach(
        f"{repo} is not in the cache, and the hub cannot be reached: {error}",
        hint="Check the connection, or name a file or folder on this machine.",
    )
