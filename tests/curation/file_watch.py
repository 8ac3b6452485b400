"""Records which files a program and its libraries open: Python's audit hooks do not see the files that Blender opens.

Linux reports every access to a watched folder (inotify), everywhere and without privileges. Where strace is installed,
it reports all other files, too. Landlock would prevent such accesses, but report none.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

TRACE_VARIABLE = "HELIX4D_FUZZ_TRACE"
STRACE = shutil.which("strace")
_CHANGES = (
    "open,creat,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,rmdir,symlink,symlinkat,link,linkat,truncate"
)
_CALLS = f"openat,{_CHANGES},openat2,chmod,fchmodat,mknod,mknodat"
_LINE = re.compile(r"\d+ +(\w+)\((.*)\) += (-?\d+)(?:<(.*)>| [A-Z].*)?")
_STRING = re.compile(r'(?:(AT_FDCWD|\d+)<((?:[^\\>]|\\.)*)>, )?"((?:[^"\\]|\\.)*)"')
_OPEN, _ACCESS, _MODIFY, _ATTRIBUTES, _MOVED, _CREATE, _DELETE = 0x20, 0x1, 0x2, 0x4, 0xC0, 0x100, 0x200
_WRITING = _MODIFY | _ATTRIBUTES | _MOVED | _CREATE | _DELETE
_IS_FOLDER = 0x40000000


class FolderWatch:
    """Reports accesses to the entries of folders, but not those to folders in them."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._handle < 0:
            raise OSError(ctypes.get_errno(), "inotify is not available")
        self._folders: dict[int, tuple[Path, bool]] = {}

    def add(self, folder: Path, readable: bool = False) -> None:
        """Watch a folder: writing, and unless it is `readable`, reading."""
        mask = _WRITING if readable else _WRITING | _OPEN | _ACCESS
        number = self._libc.inotify_add_watch(self._handle, os.fsencode(folder), mask)
        if number < 0:
            raise OSError(ctypes.get_errno(), f"{folder} cannot be watched")
        self._folders[number] = folder, readable

    def remove(self, folder: Path) -> None:
        """Stop watching a folder."""
        number = next(number for number, (watched, _) in self._folders.items() if watched == folder)
        self._libc.inotify_rm_watch(self._handle, number)
        self.escapes()
        del self._folders[number]

    def escapes(self) -> list[str]:
        """Return the accesses since the last call."""
        try:
            data = os.read(self._handle, 1 << 20)
        except BlockingIOError:
            return []
        found, at = [], 0
        while at < len(data):
            number, mask, _, size = struct.unpack_from("iIII", data, at)
            name = os.fsdecode(data[at + 16 : at + 16 + size].rstrip(b"\0"))
            at += 16 + size
            if number in self._folders and not mask & _IS_FOLDER:
                found.append(f"{'write' if mask & _WRITING else 'read'} {self._folders[number][0] / name}")
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """End all watches."""
        os.close(self._handle)


def exec_traced(module: str, log: Path) -> None:
    """Replace this process by `python -m module` under strace, which keeps the process id and writes to `log`."""
    assert STRACE is not None
    options = ["-D", "-f", "-y", "-q", "--seccomp-bpf", "-s", "4096", "-e", f"trace={_CALLS}"]
    os.execv(STRACE, [STRACE, *options, "-o", str(log), sys.executable, "-m", module])


def traced_escapes(
    log: Path, working: Path, read: Sequence[Path], write: Sequence[Path]
) -> Iterator[tuple[str, list[str]]]:
    """Yield every access to a file outside the folders, with the paths that were opened before it.

    Files that cannot be read, such as missing ones, do not count; attempts to write do.

    Args:
        log: log of a process that has ended.
        working: its working directory.
        read: folders and files that may be read.
        write: folders that may be written, too.
    """
    allowed_write = tuple(f"{where}/" for folder in write for where in (folder, os.path.realpath(folder)))
    allowed_read = allowed_write + tuple(f"{where}/" for folder in read for where in (folder, os.path.realpath(folder)))
    before: list[str] = []
    for line in _complete(log):
        call = _LINE.fullmatch(line)
        if call is None:
            continue
        name, arguments, status, opened = call.groups()
        writing = not name.startswith("open") or any(f"O_{flag}" in arguments for flag in ("WRONLY", "RDWR", "CREAT"))
        for _, folder, text in _STRING.findall(arguments):
            path = os.path.normpath(os.path.join(working, _plain(folder), _plain(text)))
            if int(status) >= 0 and opened:
                path = _plain(opened)  # without symbolic links
            allowed = allowed_write if writing else allowed_read
            if not f"{path}/".startswith(allowed) and (writing or int(status) >= 0):
                failed = "" if int(status) >= 0 else " (failed)"
                yield f"{'write' if writing else 'read'} {path}{failed}", before
            before.append(path)


def _complete(log: Path) -> list[str]:
    """Wait until the log holds the end of its process, which strace writes after the fact, and return its lines."""
    for _ in range(300):
        lines = log.read_text(errors="surrogateescape").splitlines() if log.exists() else []
        if lines and any(line.split(maxsplit=1)[1].startswith("+++") for line in lines if line.startswith(_pid(lines))):
            return lines
        time.sleep(0.1)
    raise TimeoutError(f"{log} is still incomplete after 30 s")


def _pid(lines: list[str]) -> str:
    return lines[0].split()[0] + " "


def _plain(text: str) -> str:
    """Undo strace's escapes."""
    return os.fsdecode(text.encode("ascii", "surrogateescape").decode("unicode_escape").encode("latin-1"))
