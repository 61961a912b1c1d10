"""Confines a process that decodes untrusted files: it can open no file, use no network and start no program.

A hostile file may take over its decoder and run any code in the process. So the kernel must refuse everything that
decoding does not need. Two features of Linux's kernel do that together. If the kernel lacks one, the other is used
alone:

- seccomp refuses all system calls except those of `CALLS`. It is used on the machine types that `Numbers` has.
- Landlock refuses to open files, to use TCP, and to reach other processes by sockets or signals. Old kernels can refuse
  only a part of this.

Other systems have neither. A process that is confined cannot undo it.
"""

import ctypes
import errno
import os
import struct
import sys
from dataclasses import dataclass
from typing import NamedTuple

from longtake import system


class Numbers(NamedTuple):
    """The number of one system call on each machine type. The names of the fields are those of the machine types."""

    x86_64: int
    aarch64: int


CALLS = {
    # the file, requests and answers, which are open already
    "read": Numbers(0, 63),
    "write": Numbers(1, 64),
    "lseek": Numbers(8, 62),
    "close": Numbers(3, 57),
    # memory
    "brk": Numbers(12, 214),
    "mmap": Numbers(9, 222),
    "mprotect": Numbers(10, 226),
    "mremap": Numbers(25, 216),
    "munmap": Numbers(11, 215),
    "madvise": Numbers(28, 233),
    # threads
    "futex": Numbers(202, 98),
    "set_robust_list": Numbers(273, 99),
    "rseq": Numbers(334, 293),
    "sched_yield": Numbers(24, 124),
    "sched_getaffinity": Numbers(204, 123),
    "rt_sigprocmask": Numbers(14, 135),
    "rt_sigaction": Numbers(13, 134),
    "rt_sigreturn": Numbers(15, 139),
    "restart_syscall": Numbers(219, 128),
    # facts about this process, time and chance
    "getpid": Numbers(39, 172),
    "getppid": Numbers(110, 173),
    "gettid": Numbers(186, 178),
    "getuid": Numbers(102, 174),
    "clock_gettime": Numbers(228, 113),
    "clock_nanosleep": Numbers(230, 115),
    "nanosleep": Numbers(35, 101),
    "gettimeofday": Numbers(96, 169),
    "getrandom": Numbers(318, 278),
    # the end
    "exit": Numbers(60, 93),
    "exit_group": Numbers(231, 94),
}
"""Name -> numbers of each system call that decoding needs. All other calls fail with EPERM, except `clone` and `clone3`
(see `call_filter`)."""

_CLONE = Numbers(56, 220)
_CLONE3 = Numbers(435, 435)
_SECCOMP = Numbers(317, 277)
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_ARCHITECTURES = Numbers(x86_64=0xC000_003E, aarch64=0xC000_00B7)  # AUDIT_ARCH_* of linux/audit.h

# Codes of BPF (linux/bpf_common.h) and answers of a filter (linux/seccomp.h).
_LOAD, _IF_EQUAL, _IF_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # places in struct seccomp_data
_ALLOW, _FAIL_WITH, _KILL_PROCESS = 0x7FFF_0000, 0x0005_0000, 0x8000_0000
_CLONE_THREAD = 0x0001_0000

_SECCOMP_SET_FILTER, _SECCOMP_HAS_ACTION, _ALL_THREADS = 1, 2, 1
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CAPABILITY_VERSION = 0x2008_0522
_LANDLOCK_VERSION = 1  # flag of landlock_create_ruleset


@dataclass(frozen=True)
class Support:
    """The features of this system's kernel that can confine a process that decodes untrusted files.

    seccomp: True if the kernel can refuse system calls.
    landlock: version of Landlock, with which the kernel refuses access to files and the network; 0 if the kernel does
        not have it or it is turned off.
    stays_root: True if this process's user is root, and the process that decodes cannot become another user.
    """

    seccomp: bool
    landlock: int
    stays_root: bool

    def __str__(self) -> str:
        """Returns a text for the user about how well processes that decode untrusted files are confined."""
        if not self.stays_root:
            return self._confined
        return (
            f"{self._confined} It stays root, without root's capabilities, because root may not become another user "
            "here: run longtake as an ordinary user, or give it the capability CAP_SETUID."
        )

    @property
    def _confined(self) -> str:
        names = ["seccomp"] * self.seccomp + [f"Landlock {self.landlock}"] * (self.landlock > 0)
        if not names:
            return (
                "Untrusted files are decoded in a process of limited time, but this system cannot keep it from files "
                "and network: accept only files that you trust."
            )
        what = "has no files, network or programs" if self.seccomp else "has no files (but UDP and programs)"
        return f"Untrusted files are decoded in a process that {what} ({', '.join(names)})."


def support() -> Support:
    """Returns which features for confining a process this system's kernel has. It does not confine the caller."""
    machine, stays_root = system.linux_machine(), not system.can_leave_root()
    if machine is None:
        return Support(seccomp=False, landlock=0, stays_root=stays_root)
    if machine not in Numbers._fields:
        return Support(seccomp=False, landlock=_landlock_version(), stays_root=stays_root)
    action = ctypes.c_uint32(_FAIL_WITH)
    has_action = _call(getattr(_SECCOMP, machine), _SECCOMP_HAS_ACTION, 0, ctypes.addressof(action)) == 0
    return Support(seccomp=has_action, landlock=_landlock_version(), stays_root=stays_root)


def confine() -> None:
    """Confines this process for good: from now on it can open no file, use no network and start no program.

    The process must have only one thread. It must have imported all modules and opened all files before. From now on
    the kernel kills it when the thread of the parent process that started it ends.

    Old kernels can refuse only a part of this, and outside Linux nothing happens (see `support`). If the kernel has
    seccomp or Landlock but it cannot be switched on, the process ends with a message on standard error.
    """
    machine = system.linux_machine()
    if machine is None:
        return
    offered = support()
    _drop_capabilities()
    system.control(_PR_SET_DUMPABLE, 0)  # a core dump that is piped to a program ignores the limit of its size
    system.end_with_starter()  # after the change of the user, which would undo it
    system.control(_PR_SET_NO_NEW_PRIVS, 1)
    if offered.landlock > 0 and not _refuse_files(offered.landlock):
        sys.exit("The kernel has Landlock, but this process could not be confined by it, so it decodes no file.")
    if offered.seccomp and not _refuse_calls(machine):
        sys.exit("The kernel has seccomp, but this process could not be confined by it, so it decodes no file.")


def call_filter(machine: str) -> bytes:
    """Returns the seccomp filter for a machine type: a BPF program of 8 bytes per instruction.

    machine: the name of the machine type: "x86_64" or "aarch64", as the fields of `Numbers` are named.

    The filter decides on the process's system calls in this way:
    - Those that decoding needs (the dictionary CALLS lists them), and `clone` for new threads, are allowed.
    - `clone3` fails with ENOSYS, because a filter cannot see its arguments. Libraries then use `clone`.
    - A call by the numbers of another machine type, such as a 32-bit one, ends the process with SIGSYS.
    - All others fail with EPERM.
    """

    def number(call: Numbers) -> int:
        return int(getattr(call, machine))

    program = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_IF_EQUAL, number(_ARCHITECTURES), skip_if_true=1),
        _step(_RETURN, _KILL_PROCESS),
        _step(_LOAD, _NUMBER),
    ]
    for call in CALLS.values():
        program += [_step(_IF_EQUAL, number(call), skip_if_false=1), _step(_RETURN, _ALLOW)]
    program += [
        _step(_IF_EQUAL, number(_CLONE3), skip_if_false=1),
        _step(_RETURN, _FAIL_WITH | errno.ENOSYS),
        _step(_IF_EQUAL, number(_CLONE), skip_if_false=3),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_IF_BIT, _CLONE_THREAD, skip_if_false=1),
        _step(_RETURN, _ALLOW),
        _step(_RETURN, _FAIL_WITH | errno.EPERM),
    ]
    return b"".join(program)


def _step(code: int, value: int, *, skip_if_true: int = 0, skip_if_false: int = 0) -> bytes:
    """Returns one instruction of a BPF program as bytes, a struct sock_filter.

    code, value: the instruction's code and its operand.
    skip_if_true, skip_if_false: for a condition, how many of the next instructions are skipped if it is true or false.
    """
    return struct.pack("=HBBI", code, skip_if_true, skip_if_false, value)


class _Program(ctypes.Structure):
    """A struct sock_fprog: the number of instructions, and the address of the first."""

    _fields_ = (("length", ctypes.c_ushort), ("first", ctypes.c_void_p))


def _refuse_calls(machine: str) -> bool:
    """Makes the kernel refuse, by seccomp, all system calls of this process except those of CALLS.

    `machine` is the name of the machine type, such as `x86_64`: one of the field names of `Numbers`. Returns False if
    the kernel does not accept that.
    """
    steps = call_filter(machine)
    memory = ctypes.create_string_buffer(steps)
    program = _Program(len(steps) // 8, ctypes.addressof(memory))
    return _call(getattr(_SECCOMP, machine), _SECCOMP_SET_FILTER, _ALL_THREADS, ctypes.addressof(program)) == 0


def _landlock_version() -> int:
    return max(0, _call(_LANDLOCK_CREATE_RULESET, 0, 0, _LANDLOCK_VERSION))


def _refuse_files(version: int) -> bool:
    """Makes the kernel refuse, by Landlock, everything that Landlock can refuse to this process, such as opening files.

    `version` is the kernel's version of Landlock, at least 1. Returns False if that fails.
    """
    file_rights = 13 + sum(version >= added for added in (2, 3, 5))
    network_rights, scopes = 0b11 * (version >= 4), 0b11 * (version >= 6)
    handled = (ctypes.c_uint64 * 3)((1 << file_rights) - 1, network_rights, scopes)  # struct landlock_ruleset_attr
    ruleset = _call(_LANDLOCK_CREATE_RULESET, ctypes.addressof(handled), ctypes.sizeof(handled), 0)
    if ruleset < 0:
        return False
    is_confined = _call(_LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return is_confined


def _drop_capabilities() -> None:
    """Drops all capabilities of this process: single rights of root, for example to open ports below 1024."""
    header, none = struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(6 * 4)
    ctypes.CDLL(None).capset(header, none)


def _call(number: int, *arguments: int) -> int:
    """Makes the system call with this number. Returns its result, or -1 if it failed."""
    function = ctypes.CDLL(None).syscall
    function.restype = ctypes.c_long
    return int(function(*(ctypes.c_long(value) for value in (number, *arguments))))
