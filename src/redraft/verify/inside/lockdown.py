"""Limits on this process that it cannot lift: resource limits and a filter of system calls.

What is forbidden fails with EPERM. Threads are allowed. Only Linux on x86-64 and ARM64 is supported, whose
system call numbers are listed here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

MEMORY = 512 * 1024 * 1024  # most address space in bytes. It bounds threads too, which reserve 8 MB each.
FILES = 64  # most open files
DISK = 64 * 1024 * 1024  # most bytes in /tmp, and in a file

PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38
"""From linux/prctl.h."""

_LOAD, _EQUAL, _AT_LEAST, _BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""BPF instructions, from linux/bpf_common.h."""

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
"""What a filter returns, from linux/seccomp.h."""

_CLONE_THREAD = 0x00010000

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # from linux/audit.h

_FORBIDDEN = """
fork 57 - | vfork 58 - | execve 59 221 | execveat 322 281 | socket 41 198 | ptrace 101 117
kcmp 312 272 | pidfd_getfd 438 438 | process_vm_readv 310 270 | process_vm_writev 311 271
syslog 103 116 | unshare 272 97 | setns 308 268 | chroot 161 51 | pivot_root 155 41
mount 165 40 | umount2 166 39 | open_tree 428 428 | move_mount 429 429 | fsopen 430 430
fsconfig 431 431 | fsmount 432 432 | fspick 433 433 | mount_setattr 442 442 | bpf 321 280
perf_event_open 298 241 | userfaultfd 323 282 | io_uring_setup 425 425 | io_uring_enter 426 426
io_uring_register 427 427 | add_key 248 217 | request_key 249 218 | keyctl 250 219
memfd_create 319 279 | memfd_secret 447 447 | shmget 29 194 | msgget 68 186 | semget 64 190
mq_open 240 180 | name_to_handle_at 303 264 | open_by_handle_at 304 265 | personality 135 92
init_module 175 105 | finit_module 313 273 | delete_module 176 106 | kexec_load 246 104
kexec_file_load 320 294 | prctl 157 167
"""
"""Each call with its number on x86-64 and on ARM64, from asm/unistd.h; - where there is none. `prctl` could
take back that this process dies with its parent."""

_CLONE, _CLONE3 = (56, 220), (435, 435)


def lock_down(seconds: int) -> None:
    """Limit this process to `seconds` of CPU time, and forbid it the calls above."""
    import resource  # only Unix has it, and others read the numbers above

    limits = {
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: DISK,
        resource.RLIMIT_NOFILE: FILES,
        resource.RLIMIT_CORE: 0,
    }
    for limit, most in limits.items():
        resource.setrlimit(limit, (most, most))
    libc = ctypes.CDLL(None, use_errno=True)
    program = ctypes.create_string_buffer(instructions(os.uname().machine))
    header = struct.pack("HxxxxxxP", (len(program) - 1) // 8, ctypes.addressof(program))
    for option, *args in ((PR_SET_DUMPABLE, 0), (PR_SET_NO_NEW_PRIVS, 1), (PR_SET_SECCOMP, 2, header)):
        given = [ctypes.c_ulong(arg) if isinstance(arg, int) else arg for arg in args]
        if libc.prctl(option, *given, *[ctypes.c_ulong(0)] * (4 - len(given))):
            raise OSError(ctypes.get_errno(), "prctl")


def instructions(machine: str) -> bytes:
    """Return the BPF program. It reads `struct seccomp_data`: the number at 0, the architecture at 4, and
    the first argument at 16.
    """
    column = list(ARCHITECTURES).index(machine)
    refuse = _step(_RETURN, _ERRNO | errno.EPERM)
    calls = [call.split() for call in _FORBIDDEN.replace("\n", "|").strip("|").split("|")]
    numbers = [int(call[1 + column]) for call in calls if call[1 + column] != "-"]
    return b"".join(
        [
            _step(_LOAD, 4),
            _step(_EQUAL, ARCHITECTURES[machine], 1, 0),
            _step(_RETURN, _KILL),
            _step(_LOAD, 0),
            _step(_AT_LEAST, 0x40000000, 0, 1),  # x32, with numbers of its own
            _step(_RETURN, _KILL),
            *[_step(_EQUAL, number, 0, 1) + refuse for number in numbers],
            _step(_EQUAL, _CLONE3[column], 0, 1),
            _step(_RETURN, _ERRNO | errno.ENOSYS),  # its flags are out of sight; libc then takes clone
            _step(_EQUAL, _CLONE[column], 0, 3),
            _step(_LOAD, 16),
            _step(_BITS, _CLONE_THREAD, 1, 0),
            refuse,
            _step(_RETURN, _ALLOW),
        ]
    )


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
