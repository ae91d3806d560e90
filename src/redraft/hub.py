"""Ask the Hugging Face hub, and turn its errors into redraft's. The caller decides what to fetch.

Files lie in the cache of huggingface_hub, which other programs share. `HF_HOME` moves it, and `HF_ENDPOINT`
names another hub.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from redraft.errors import ModelError, RedraftError, UsageError

Kind = Literal["model", "dataset"]

_ERRORS: dict[Kind, type[RedraftError]] = {"model": ModelError, "dataset": UsageError}


class OutOfReach(Exception):
    """The hub does not reply. The caller looks into the cache, or says so."""


def endpoint() -> str | None:
    """Return the address of the hub, or None for the usual one."""
    return os.environ.get("HF_ENDPOINT")


@contextmanager
def asking(name: str, kind: Kind) -> Iterator[None]:
    """Turn exceptions of huggingface_hub about `org/name` into ours.

    Raises:
        ModelError: There is no such model, access is denied, or the disk is full.
        UsageError: The same for a dataset.
        OutOfReach: The hub does not reply.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    no_reply: type[BaseException] = HfHubHTTPError.__bases__[0]  # of the HTTP client that this version uses
    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(name, kind, error.response.status_code) from None
    except HFValidationError as error:
        message = f"{name!r} is not a valid name of a {kind} on the hub: {error}"
        raise _ERRORS[kind](message, hint="org/name") from None
    except (no_reply, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "Free some room, or keep the cache on another disk with HF_HOME."
            raise _ERRORS[kind](f"the disk is full: no room for {name}.", hint=hint) from None
        raise OutOfReach(str(error)) from None


def _refused(name: str, kind: Kind, status: int) -> RedraftError:
    if status in (401, 403, 404):
        return _ERRORS[kind](
            f"there is no file {name}, and the hub has no such {kind} or denies access ({status}).",
            hint=f"Check the name. For a gated {kind}, accept its terms on its page, then: hf auth login",
        )
    return _ERRORS[kind](f"the hub fails ({status}) for {name}.", hint="Try again later.")
