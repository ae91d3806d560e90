"""Kill the process of a model when the program that started it has ended, on every system: see `child`.

Run by its path with the number of that process, and with its standard input, which ends with the program.
Only the standard library is imported.
"""

from __future__ import annotations

import os
import signal
import sys

_TERMINATE = 1  # PROCESS_TERMINATE of Windows


def main(watched: int) -> None:
    """Wait for the end of standard input. Then kill the process, unless it has ended by itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "win32":
        import _winapi

        process = _winapi.OpenProcess(_TERMINATE, False, watched)  # noqa: FBT003  (while open, nothing else gets its number)
        sys.stdin.buffer.read()
        _winapi.TerminateProcess(process, 1)
    else:
        sys.stdin.buffer.read()
        if os.getppid() == watched:
            os.kill(watched, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
