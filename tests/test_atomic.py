"""A file is the earlier one or the new one, never half of one."""

import os
import stat
import subprocess
import sys

import pytest

from reftranscoder.errors import FileError
from reftranscoder.files.atomic import atomic_write, check_replaceable


@pytest.fixture
def path(tmp_path):
    """A file with something in it, alone in its folder."""
    path = tmp_path / "file.bin"
    path.write_bytes(b"earlier")
    return path


def alone(path):
    return [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_file_changes_when_the_block_ends_and_not_before(path):
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"earlier"
    assert path.read_bytes() == b"new"
    assert alone(path)


def test_a_new_file(tmp_path):
    with atomic_write(tmp_path / "new") as file:
        file.write(b"new")
    assert (tmp_path / "new").read_bytes() == b"new"


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_earlier_file_alone(path, kind):
    with pytest.raises(kind), atomic_write(path) as file:
        file.write(b"half")
        raise kind
    assert path.read_bytes() == b"earlier"
    assert alone(path)


def test_what_the_body_raises_about_another_file_keeps_its_name(path):
    with pytest.raises(FileError, match="^other: "), atomic_write(path):
        raise FileError("other", "is empty")
    assert alone(path)


def test_the_bytes_are_on_the_disk_before_the_name_is(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def logged(name, function):
        return lambda *args: (calls.append(name), function(*args))[1]

    monkeypatch.setattr(os, "fsync", logged("fsync", fsync))
    monkeypatch.setattr(os, "replace", logged("replace", replace))
    with atomic_write(path) as file:
        file.write(b"new")
    assert calls == ["fsync", "replace", "fsync"]  # the file, its name, the folder


def test_without_force_an_existing_file_is_refused_before_the_block_runs(path):
    ran = False
    with pytest.raises(FileError, match="exists already.*--force"), atomic_write(path, force=False):
        ran = True
    assert not ran
    assert path.read_bytes() == b"earlier"


def test_without_force_a_file_that_appears_meanwhile_survives(tmp_path):
    path = tmp_path / "file.bin"
    with pytest.raises(FileError, match="exists already"), atomic_write(path, force=False) as file:
        file.write(b"late")
        path.write_bytes(b"first")
    assert path.read_bytes() == b"first"
    assert alone(path)


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o077, 0o600)])
def test_a_new_file_has_the_permissions_of_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "new"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode


def test_a_replaced_file_keeps_its_permissions(path):
    path.chmod(0o640)
    with atomic_write(path):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_symbolic_link_is_followed(path, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(path)
    with atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("letter", ["n", "é", "𝕏"])
def test_a_name_as_long_as_file_systems_allow(tmp_path, letter):
    path = tmp_path / (letter * (255 // len(letter.encode())))
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert alone(path)


@pytest.mark.parametrize(
    "name, words",
    [
        (".", "is a folder"),
        ("missing/file", "its folder does not exist. Make it first: mkdir -p"),
        ("/dev/null", "is not an ordinary file"),
        ("plain/file", "cannot be written: Not a directory"),
        ("nu\0ll", "cannot be written: "),
        ("n" * 300, "cannot be written: File name too long"),
    ],
)
def test_what_cannot_become_a_file_is_refused(tmp_path, name, words):
    (tmp_path / "plain").touch()
    for refuse in (check_replaceable, lambda path: atomic_write(path).__enter__()):
        with pytest.raises(FileError) as caught:
            refuse(tmp_path / name)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["plain"]
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_read_only_file_is_refused(path, monkeypatch):
    # Where the tests run as root, nothing is read-only: the answer is given for the system.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(FileError, match="is read-only"):
        check_replaceable(path)


FULL = """
import resource, sys
import numpy as np
from reftranscoder.files.atomic import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with atomic_write(sys.argv[1]) as file:
    {write}
"""


@pytest.mark.parametrize(
    "write",
    ["file.write(bytes(5000))", "np.save(file, np.zeros(5000))"],
)
def test_a_full_disk_leaves_the_earlier_file(path, write):
    pytest.importorskip("resource")
    command = [sys.executable, "-c", FULL.format(write=write), path]
    done = subprocess.run(command, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"reftranscoder.errors.FileError: {path}: cannot be written: ")
    assert "Exception ignored" not in done.stderr
    assert path.read_bytes() == b"earlier"
    assert alone(path)
