"""Writing a file so that it is either the earlier one or the new one, never half of one.

What is written goes to a temporary name in the same folder, is flushed to the disk, and takes the
file's name in one step.  Whatever goes wrong before (a full disk, Ctrl-C, an exception) leaves the
earlier file as it was and no temporary file behind; what a killed process leaves behind, the next
writer of the same file removes.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import FileError, words
from .leftovers import LOCKS, claim, remove_leftovers, temporary_name


def check_replaceable(path: str | os.PathLike[str], *, force: bool = True) -> None:
    """Refuse what cannot become a file, before the work that fills it is done.

    Raises:
        FileError: ``path`` is a folder or a device, is read-only, or lies in a folder that does not
            exist; without ``force`` also where a file exists.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not Path(os.path.realpath(path)).parent.is_dir():
            hint = f"Make it first: mkdir -p {path.parent}"
            raise FileError(path, "its folder does not exist", hint) from None
        return
    except (OSError, ValueError) as error:
        raise FileError(path, f"cannot be written: {_reason(error)}") from None
    if stat.S_ISDIR(mode):
        raise FileError(path, "is a folder", "Name a file in it.")
    if not stat.S_ISREG(mode):
        raise FileError(path, "is not an ordinary file", "Name one: it is replaced as a whole.")
    if not os.access(path, os.W_OK):
        raise FileError(path, "is read-only", "Make it writable, or choose another name.")
    if not force:
        raise FileError(path, "exists already", "Choose another name, or replace it with --force.")


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], *, force: bool = True) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes ``path`` when the block ends without an exception.

    A symbolic link is followed.  A new file has the permissions that the umask gives, a replaced
    one keeps its own.  With ``force=False`` an existing file is left alone.

    Raises:
        FileError: as `check_replaceable`; or the file cannot be written, for want of space or of
            permission.  ``path`` is then unchanged.
    """
    check_replaceable(path, force=force)
    target = Path(os.path.realpath(path))
    remove_leftovers(target)
    temporary = temporary_name(target)
    try:
        file = open(temporary, "xb")
        while not claim(file.fileno(), temporary):
            file.close()
            temporary = temporary_name(target)
            file = open(temporary, "xb")
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if LOCKS:  # for as long as the file is open
                _take_name(temporary, target, path, force)
        if not LOCKS:  # Windows renames no open file
            _take_name(temporary, target, path, force)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and not isinstance(error, FileError):
            raise FileError(path, f"cannot be written: {_reason(error)}") from error
        raise
    _sync_folder(target.parent)


def _take_name(temporary: Path, target: Path, path: str | os.PathLike[str], force: bool) -> None:
    # Once more: another process may have written it while this one was at work.
    check_replaceable(path, force=force)
    if target.exists():
        os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
    os.replace(temporary, target)


def _reason(error: Exception) -> str:
    # NumPy reports a short write without the system's own reason.
    return getattr(error, "strerror", None) or f"{words(error)} (is the disk full?)"


def _sync_folder(folder: Path) -> None:
    """Bring the new name itself to the disk, where the system can do that for a folder."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
