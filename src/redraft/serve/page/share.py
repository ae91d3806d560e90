"""A public address for the page, by Gradio's tunnel (`--share`).

Gradio's service names a server, to which a program of theirs (frpc, fetched once and checked by its sum)
opens a tunnel. Everybody who has the address reaches the login of the page, so there has to be one.
"""

from __future__ import annotations

import secrets

from redraft.errors import RedraftError, UsageError, install


def check_share(*, page: bool, keys: bool) -> None:
    """Check that a page may be shared.

    Raises:
        UsageError: There is no page, or it has no login.
    """
    if not page:
        raise UsageError(
            "--share gives the web page a public address, and there is no page.",
            hint=f"Install it, and leave out --no-page: {install('web')}",
        )
    if not keys:
        raise UsageError(
            "--share lets the whole internet reach the page, and there are no keys.",
            hint="Add --api-key-file FILE: the page then asks for a key.",
        )


def open_tunnel(port: int) -> str:
    """Return the public address of a port of this machine. Blocks for some seconds.

    Raises:
        RedraftError: The tunnel cannot be opened.
    """
    from gradio.networking import setup_tunnel

    try:
        return setup_tunnel("127.0.0.1", port, secrets.token_urlsafe(32), None, None)
    except Exception as error:  # noqa: BLE001  (Gradio raises whatever went wrong)
        reason = " ".join(str(error).split())
        raise RedraftError(
            f"the page cannot be shared: {reason:.200}",
            hint="The tunnel needs api.gradio.app and cdn-media.huggingface.co. Without --share, another "
            f"machine reaches the page by: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE",
        ) from None
