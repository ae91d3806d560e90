"""Drives a real browser: Chromium without a window, by its DevTools protocol over a pipe.

Messages are JSON texts, each ended by a NUL byte. The browser reads them from file descriptor 3 and writes
its own to 4. Tests that use it are skipped where there is none.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from tests.lacking import lack_chromium

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")
_PATIENCE = 60.0  # seconds


class Browser:
    """A browser with one page."""

    def __init__(self, folder: Path) -> None:
        if CHROMIUM is None:
            lack_chromium()
        theirs, self._out = os.pipe()
        self._in, back = os.pipe()
        command = [CHROMIUM, *_FLAGS, f"--user-data-dir={folder / 'profile'}"]
        line = f"exec {shlex.join(command)} 3<&{theirs} 4>&{back}"
        self._process = subprocess.Popen(
            ["bash", "-c", line], pass_fds=(theirs, back), stderr=subprocess.DEVNULL
        )
        os.close(theirs)
        os.close(back)
        self._numbers = itertools.count(1)
        self._left = b""
        self._session: dict[str, str] = {}

    def __enter__(self) -> Self:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": found["sessionId"]}
        self.call("Page.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params, **self._session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (said := self._read()).get("id") != number:
            pass
        assert "error" not in said, said
        result: dict[str, Any] = said["result"]
        return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            data = os.read(self._in, 1 << 16)
            assert data, "the browser has ended"
            self._left += data
        text, _, self._left = self._left.partition(b"\0")
        said: dict[str, Any] = json.loads(text)
        return said

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        self.call("Page.navigate", url="about:blank")  # another fragment alone loads nothing
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, code: str) -> Any:
        """Return the value of JavaScript in the page."""
        found = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, code: str) -> None:
        """Wait until JavaScript in the page gives something true."""
        deadline = time.monotonic() + _PATIENCE
        while not self._holds(code):
            assert time.monotonic() < deadline, f"never true: {code}\n{self.js('document.body.innerText')}"
            time.sleep(0.02)

    def _holds(self, code: str) -> bool:
        try:
            return bool(self.js(f"!!({code})"))
        except AssertionError as error:
            if "Inspected target navigated or closed" not in str(error):
                raise
            return False  # the page was left while the browser computed

    def press(self, key: str) -> None:
        """Press a key: a character, Escape, Enter or Tab."""
        names = {"Escape": 27, "Enter": 13, "Tab": 9}
        text = {"text": "\r" if key == "Enter" else key} if key not in ("Escape", "Tab") else {}
        code = names.get(key) or ord(key.upper())
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        """Put a text where the cursor is, as an input method does."""
        self.call("Input.insertText", text=text)

    def look(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Set the size of the window, and the colours that the user prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
