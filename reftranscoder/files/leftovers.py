"""Temporary files of runs that were killed: told from those of runs that are alive, and removed.

What is to become ``NAME`` is called ``.NAME.XXXXXXXX.tmp`` until it is whole.  Its writer holds a
lock on it, which the system lets go when the writer ends, however it ends: what can be locked
belongs to nobody.  (Windows has no such lock, but does not let go of a file that is open either.)
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # Windows has none

LOCKS = fcntl is not None
_KEPT_OF_NAME = 40  # characters: a temporary name must not be longer than file systems allow


def temporary_name(target: Path) -> Path:
    """A name, beside ``target``, that nothing has yet."""
    return target.with_name(f".{target.name[:_KEPT_OF_NAME]}.{secrets.token_hex(4)}.tmp")


def claim(descriptor: int, path: Path) -> bool:
    """Lock what is open as ``descriptor``, until that is closed.

    False if ``path`` is no longer it: somebody took it for a leftover before it was locked.
    """
    if fcntl is None:
        return True
    with contextlib.suppress(OSError):  # some network file systems have no locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what killed writers of ``path`` left beside it.  What cannot be removed stays."""
    target = Path(os.path.realpath(path))
    of_target = re.compile(re.escape(f".{target.name[:_KEPT_OF_NAME]}.") + r"[0-9a-f]{8}\.tmp")
    with contextlib.suppress(OSError):
        for name in os.listdir(target.parent):
            if of_target.fullmatch(name):
                _remove_if_nobodys(target.with_name(name))


def _remove_if_nobodys(path: Path) -> None:
    with contextlib.suppress(OSError):
        if fcntl is None:
            path.unlink()
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        finally:
            os.close(descriptor)
