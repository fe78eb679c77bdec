"""Containers are looked at before they are read: what a file promises, it has to have."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from reftranscoder.errors import FileError
from reftranscoder.files import schema
from reftranscoder.files.atomic import atomic_write
from reftranscoder.files.npz import read_arrays, write_arrays
from reftranscoder.files.safetensors import FLOATS, read_tensors


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.fixture
def archive(tmp_path):
    """A function that writes an archive with these members, and returns what is said of it."""

    def said(*members, compression=zipfile.ZIP_STORED):
        path = tmp_path / "file.npz"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile's, of a name that is there twice
            with zipfile.ZipFile(path, "w", compression) as file:
                for name, content in members:
                    file.writestr(name, content)
        with pytest.raises(FileError) as caught:
            read_arrays(path, {})
        return str(caught.value)

    return said


GOOD = npy(np.arange(6.0))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello", "its a is no array"),
        (b"", "its a is no array"),
        (GOOD[:-1], "bytes, and"),
        (GOOD + b"x", "bytes, and"),
        (npy(np.array([None])), "holds pickled objects, which could run any code"),
        (npy(np.zeros(3, "M8[s]")), "holds datetime64"),
        (npy(np.zeros(3, [("a", "f4")])), "holds "),
        (npy(np.zeros(3, "V2")), "NumPy has no bfloat16"),
        (GOOD.replace(b"(6,)", b"(-6,)"), "is damaged"),
        (GOOD.replace(b"(6,), }" + b" " * 24, b"(1%s,), }" % (b"0" * 24)), "damaged"),
    ],
    ids=range(10),
)
def test_a_member_that_is_not_its_array(archive, content, words):
    line = archive(("b.npy", GOOD), ("a.npy", content))
    assert words in line and "\n" not in line and len(line) <= 300


def test_a_name_twice(archive):
    assert "holds a twice" in archive(("a.npy", GOOD), ("a.npy", GOOD))


def test_a_compressed_member_is_refused_before_it_is_inflated(archive):
    line = archive(("a.npy", npy(np.zeros(3_000_000))), compression=zipfile.ZIP_DEFLATED)
    assert "its a is compressed. Save it uncompressed, with numpy.savez." in line


def test_members_that_share_their_bytes(tmp_path):
    """The table says that one stored member is many times as large as the file."""
    path = tmp_path / "file.npz"
    with open(path, "wb") as file:
        write_arrays(file, {"a": np.zeros(10), "b": np.zeros(10)})
    content = path.read_bytes()
    with zipfile.ZipFile(path) as read:
        size = read.infolist()[0].file_size
    large = (size * 1000).to_bytes(4, "little") * 2
    at = content.index(b"PK\x01\x02") + 20
    path.write_bytes(content[:at] + large + content[at + 8 :])
    with pytest.raises(FileError, match="its members are larger than the file"):
        read_arrays(path, {})


PEAK = """
import resource, sys
from pathlib import Path
from reftranscoder.errors import FileError
from reftranscoder.files.npz import read_arrays
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_arrays(Path(sys.argv[1]), {})
except FileError:
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("compressed", [False, True])
def test_memory_follows_the_file(tmp_path, compressed):
    """A file that inflates to 400 MB takes none of that; one that holds 40 MB takes them once."""
    path = tmp_path / "file.npz"
    header = {"descr": "|u1", "fortran_order": False, "shape": (400_000_000,)}
    if compressed:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open("a.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, header)
                for _ in range(400):
                    file.write(bytes(1_000_000))
    else:
        with open(path, "wb") as file:
            write_arrays(file, {"a": np.zeros(5_000_000)})
    package = str(Path(read_arrays.__code__.co_filename).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", PEAK, path],
        env=os.environ | {"PYTHONPATH": package},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) * 1024 <= path.stat().st_size + 20_000_000


def test_what_is_written_is_read(tmp_path):
    arrays = {
        "a": np.arange(6, dtype="f4").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "text": np.array("ü"),
        "empty": np.zeros((0, 3), "f8"),
        "scalar": np.float16(1.5),
        "long": np.array([1, 2], np.longdouble),
    }
    with open(tmp_path / "file.npz", "wb") as file:
        write_arrays(file, arrays)
    found = read_arrays(tmp_path / "file.npz", {})
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


# safetensors.


def tensors(path, header, body=bytes(16)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    with pytest.raises(FileError) as caught:
        read_tensors(path, {}, FLOATS)
    return str(caught.value)


ENTRY = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"a": ENTRY | {"dtype": "F8_E4M3", "shape": [16]}}, "it holds F8_E4M3. Convert it first."),
        ({"a": ENTRY | {"dtype": "F4", "shape": [32]}}, "it holds F4. Convert it first."),
        ({"a": ENTRY | {"shape": [5]}}, "is damaged"),
        ({"a": ENTRY | {"shape": "x"}}, "its shape must be a list of sizes"),
        ({"a": ENTRY | {"shape": [10**18, 10**18]}}, "is damaged"),
        ({"a": ENTRY | {"data_offsets": [0]}}, "two places in the file"),
        ({"a": "text"}, "it is no object"),
        ({"a": ENTRY, "__metadata__": {"b": 1}}, "must hold texts"),
        ({"a": ENTRY, "__metadata__": [1]}, "must hold texts"),
        (b'{"a": 1, "a": 2}', "gives 'a' twice"),
        (b"{" + b'"a":{' * 100_000, "is damaged"),
        (b'{"a": ' + b"9" * 400 + b"}", "400 digits"),
        (b"\xff{}", "safetensors"),
    ],
    ids=range(13),
)
def test_a_header_that_makes_no_sense(tmp_path, header, words):
    pytest.importorskip("safetensors")
    line = tensors(tmp_path / "file.safetensors", header)
    assert words in line and "\n" not in line and len(line) <= 300


# JSON.


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "no JSON object"),
        ('{"a": 1, "a": 1}', "gives 'a' twice"),
        ('{"a": {"b": 1, "b": 2}}', "gives 'b' twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "1" * 400 + "}", "a whole number of 400 digits"),
        ("{", "Expecting"),
    ],
)
def test_json_is_read_strictly(text, words):
    with pytest.raises(ValueError, match=words):
        schema.parse(text)


FIELDS = {"t": schema.Field(schema.is_whole, "a whole number")}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "it lacks t"),
        ({"t": -1}, "its t must be a whole number; it is -1"),
        ({"t": True}, "it is True"),
        ({"t": 1.0}, "it is 1.0"),
        ({"t": 2**63}, "must be"),
        ({"t": 1, "u": 2}, "it also holds 'u'"),
    ],
)
def test_fields_are_those_of_the_table(content, words):
    assert words in schema.fault(content, FIELDS)
    assert schema.fault({"t": 0}, FIELDS) is None


# Leftovers.

KILLED = """
import os, signal, sys
from reftranscoder.files.atomic import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    print("ready", flush=True)
    sys.stdin.read()
"""


def writer(path, what):
    package = str(Path(read_arrays.__code__.co_filename).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, path, what],
        env=os.environ | {"PYTHONPATH": package},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    path = tmp_path / "run.npz"
    with writer(path, "die") as killed:
        assert killed.wait(60) == -signal.SIGKILL
    assert [p.name[:9] for p in tmp_path.iterdir()] == [".run.npz."]
    bystander = tmp_path / ".other.npz.0123abcd.tmp"
    bystander.touch()
    with atomic_write(path) as file:
        file.write(b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, bystander])
    assert path.read_bytes() == b"whole"


def test_what_a_living_writer_writes_is_left_alone(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "run.npz"
    with writer(path, "live") as living:
        assert living.stdout.readline() == "ready\n"
        with atomic_write(path) as file:
            file.write(b"first")
        living.communicate("", timeout=60)
        assert living.returncode == 0
    assert path.read_bytes() == b"half"  # whole, as far as its writer goes
    assert list(tmp_path.iterdir()) == [path]


def test_two_that_write_one_file_both_end_well(tmp_path):
    path = tmp_path / "run.npz"
    script = """
import sys
from reftranscoder.files.atomic import atomic_write
for n in range(100):
    with atomic_write(sys.argv[1]) as file:
        file.write(sys.argv[2].encode() * 10_000)
"""
    package = str(Path(read_arrays.__code__.co_filename).parents[2])
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script, path, letter], env=os.environ | {"PYTHONPATH": package}
        )
        for letter in "ab"
    ]
    assert [one.wait(120) for one in both] == [0, 0]
    assert path.read_bytes() in (b"a" * 10_000, b"b" * 10_000)
    assert list(tmp_path.iterdir()) == [path]
