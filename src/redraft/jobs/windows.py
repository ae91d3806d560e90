"""Call the Windows API to lock files, get the free memory, and open files that other processes may rename.

Import this module only on Windows. Names and numbers come from fileapi.h, minwinbase.h and sysinfoapi.h.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101  (on other systems, type checkers skip the rest)

import _winapi  # noqa: E402
import ctypes  # noqa: E402
import errno  # noqa: E402
import msvcrt  # noqa: E402
import os  # noqa: E402
from ctypes import wintypes  # noqa: E402

_SHARE_ALL = 0x1 | 0x2 | 0x4  # read, write, delete; Python's `open` does not share delete
_CREATE_NEW, _OPEN_EXISTING, _OPEN_ALWAYS = 1, 3, 4
_NORMAL, _OPEN_REPARSE_POINT = 0x80, 0x00200000
_FAIL_IMMEDIATELY, _EXCLUSIVE = 0x1, 0x2
_LOCK_VIOLATION = 33
_FAR = 0x7FFFFFFF  # high half of the locked byte's offset, past all content, so that others can read it

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)


class _Overlapped(ctypes.Structure):
    _fields_ = (
        ("Internal", ctypes.c_void_p),
        ("InternalHigh", ctypes.c_void_p),
        ("Offset", wintypes.DWORD),
        ("OffsetHigh", wintypes.DWORD),
        ("hEvent", wintypes.HANDLE),
    )


class _Memory(ctypes.Structure):
    _fields_ = (
        ("dwLength", wintypes.DWORD),
        ("dwMemoryLoad", wintypes.DWORD),
        ("total", ctypes.c_uint64),
        ("available", ctypes.c_uint64),
        ("others", ctypes.c_uint64 * 5),
    )


def open_file(path: str, flags: int) -> int:
    """Open a file like POSIX's `os.open`, but without following links. The file may be renamed while open."""
    access = _winapi.GENERIC_READ | (_winapi.GENERIC_WRITE if flags & (os.O_RDWR | os.O_WRONLY) else 0)
    how = _CREATE_NEW if flags & os.O_EXCL else _OPEN_ALWAYS if flags & os.O_CREAT else _OPEN_EXISTING
    handle = _winapi.CreateFile(path, access, _SHARE_ALL, 0, how, _NORMAL | _OPEN_REPARSE_POINT, 0)
    return msvcrt.open_osfhandle(handle, flags & os.O_APPEND | os.O_BINARY | os.O_NOINHERIT)


def lock(handle: int, *, wait: bool, shared: bool) -> None:
    """Lock an open file until closed. Raise `BlockingIOError` if another process holds the lock."""
    how = (0 if shared else _EXCLUSIVE) | (0 if wait else _FAIL_IMMEDIATELY)
    place = _Overlapped(OffsetHigh=_FAR)
    file = wintypes.HANDLE(msvcrt.get_osfhandle(handle))
    if not _kernel32.LockFileEx(file, how, 0, 1, 0, ctypes.byref(place)):
        error = ctypes.WinError(ctypes.get_last_error())
        if error.winerror == _LOCK_VIOLATION:
            raise BlockingIOError(errno.EAGAIN, error.strerror)
        raise error


def free_memory() -> int:
    """Return the bytes of memory that are free."""
    memory = _Memory(dwLength=ctypes.sizeof(_Memory))
    _kernel32.GlobalMemoryStatusEx(ctypes.byref(memory))
    return int(memory.available)
