"""Make the sandbox without bubblewrap: namespaces of Linux, with what a user may do.

Run by its path, before anything untrusted, with JSON of the folders `[[from, to], …]`, the name of a program
of this folder, and its arguments. Needs user namespaces, and Linux 5.12 for `mount_setattr`.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from pathlib import Path

CLONE_NEW = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""Mounts, cgroups, host name, IPC, users, processes and network; from linux/sched.h."""

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
"""From linux/mount.h."""

MNT_DETACH, AT_FDCWD, AT_RECURSIVE = 2, -100, 0x8000
PR_SET_PDEATHSIG, PR_CAPBSET_DROP = 1, 24
SYS_MOUNT_SETATTR = 442  # the same number on every architecture

TMP = "/tmp"  # noqa: S108  (covered by a file system in memory that only this process sees)
MOST_FILES = 10_000
_TMP_LIMITS = f"size=64m,nr_inodes={MOST_FILES}"

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")

_libc = ctypes.CDLL(None if os.name == "posix" else "msvcrt", use_errno=True)  # Windows reads names alone


def main() -> None:
    """Enter the sandbox, and become the program."""
    folders, name, *args = json.loads(sys.argv[1]), *sys.argv[2:]
    _unshare()
    _build(folders)
    _fork()
    _drop_capabilities()
    sys.argv = [name, *args]
    sys.path.insert(0, "/sandbox")
    importlib.import_module(f"redraft.verify.inside.{name}").main()


def _do(what: str, result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _unshare() -> None:
    """Become user 1000 of new namespaces."""
    user, group = os.geteuid(), os.getegid()
    _do("unshare", _libc.unshare(CLONE_NEW))
    for file, text in (("setgroups", "deny"), ("uid_map", f"1000 {user} 1"), ("gid_map", f"1000 {group} 1")):
        Path("/proc/self", file).write_text(text)


def _build(folders: list[list[str]]) -> None:
    """Replace the root by one in memory that holds these folders, /dev with three files, and /tmp."""
    sources = {path: os.open(path, os.O_PATH) for path in [*(source for source, _ in folders), *DEVICES]}
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", TMP, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    files = Path(TMP + TMP)
    files.mkdir()
    _mount("tmpfs", str(files), "tmpfs", MS_NOSUID | MS_NODEV, f"{_TMP_LIMITS},mode=777")
    for source, target in [*folders, *([file, file] for file in DEVICES)]:
        opened, place = f"/proc/self/fd/{sources[source]}", Path(TMP + target)
        place.parent.mkdir(parents=True, exist_ok=True)
        if Path(opened).is_dir():
            place.mkdir(exist_ok=True)
        else:
            place.touch()
        _mount(opened, str(place), None, MS_BIND | MS_REC)
    _change(TMP, AT_RECURSIVE, MS_RDONLY | MS_NOSUID, 0)
    _change(str(files), 0, 0, MS_RDONLY)
    for number in sources.values():
        os.close(number)
    os.chdir(TMP)
    _do("pivot_root", _libc.pivot_root(b".", b"."))
    _do("umount", _libc.umount2(b".", MNT_DETACH))
    os.chdir(TMP)


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [text.encode() if text else None for text in (source, target, kind, data)]
    call = _libc.mount(*texts[:3], ctypes.c_ulong(flags), texts[3])
    _do(f"mount {target}", call)


def _change(folder: str, how: int, put: int, clear: int) -> None:
    """Change what may be done in a file system, or with `AT_RECURSIVE` in those mounted below it too."""
    change = (ctypes.c_uint64 * 4)(put, clear, 0, 0)  # struct mount_attr
    path = ctypes.c_char_p(folder.encode())
    size = ctypes.c_size_t(ctypes.sizeof(change))
    _do("mount_setattr", _libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, path, how, change, size))


def _fork() -> None:
    """Go on as the first process with a new number. It dies with this one, and this one with redraft."""
    _do("prctl", _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
    alive, held = os.pipe()
    if child := os.fork():
        os.close(alive)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    os.close(held)
    _do("prctl", _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
    os.set_blocking(alive, False)
    try:
        if not os.read(alive, 1):
            os._exit(1)  # the parent died before the signal was set
    except BlockingIOError:
        os.close(alive)


def seal() -> None:
    """Finish the sandbox of bubblewrap, which can neither limit the files in /tmp nor protect a device.

    The devices belong to root. Without this, a program could change their modes if redraft is run by root.
    """
    _mount("none", TMP, None, MS_REMOUNT | MS_NOSUID | MS_NODEV, _TMP_LIMITS)
    for file in DEVICES:
        _change(file, 0, MS_RDONLY, 0)
    _drop_capabilities()


def _drop_capabilities() -> None:
    for number in range(64):
        _libc.prctl(PR_CAPBSET_DROP, number)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    _do("capset", _libc.capset(header, (ctypes.c_uint32 * 6)()))


if __name__ == "__main__":
    main()
