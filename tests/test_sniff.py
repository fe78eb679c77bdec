"""A file is called by what it is, not by its name."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from reftranscoder.errors import FileError
from reftranscoder.files.sniff import kind_of, require


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return buffer.getvalue()


def npy():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 3)))
    return buffer.getvalue()


CONTENTS = {
    "npy": npy(),
    "npz": zipped("W_enc.npy", "b_enc.npy"),
    "torch": zipped("archive/data.pkl", "archive/data/0"),
    "zip": zipped("readme.txt"),
    "damaged zip": zipped("W_enc.npy")[:-20],
    "pickle": pickle.dumps({"W_enc": 1}),
    "safetensors": (2).to_bytes(8, "little") + b"{}",
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(50),
    "gguf": b"GGUF" + bytes(50),
    "gzip": b"\x1f\x8b\x08" + bytes(50),
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "html": b"<!DOCTYPE html><title>404</title>",
    "unknown": b"hello",
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_kind(tmp_path, kind):
    path = tmp_path / "file"
    path.write_bytes(CONTENTS[kind])
    assert kind_of(path) == kind


def test_a_brace_in_the_ninth_place_is_not_yet_a_header(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"settings{}")  # eight bytes that would make a header of 10**18 bytes
    assert kind_of(path) == "unknown"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_binary_protocol(tmp_path, protocol):
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps([1.0], protocol))
    assert kind_of(path) == "pickle"


def test_a_torch_file_of_before_zip(tmp_path):
    # torch.save(..., _use_new_zipfile_serialization=False) starts with this number, pickled.
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2))
    assert kind_of(path) == "torch"


@pytest.mark.parametrize("kind", [kind for kind in CONTENTS if kind != "npz"])
def test_the_line_names_what_was_found_and_what_was_wanted(tmp_path, kind):
    path = tmp_path / "model.npz"
    path.write_bytes(CONTENTS[kind])
    with pytest.raises(FileError) as caught:
        require(path, "npz", {"npy": "Do this."})
    line = str(caught.value)
    assert line.startswith(f"{path}: this is ")
    assert ", not a NumPy .npz archive." in line
    assert line.endswith("Do this.") == (kind == "npy")
    assert "\n" not in line


def test_the_right_kind_passes(tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(CONTENTS["npz"])
    require(path, "npz", {})


@pytest.mark.parametrize(
    "name, words",
    [
        ("missing.npz", "there is no such file"),
        (".", "is a folder"),
        ("empty.npz", "is empty"),
        ("/dev/null", "is not an ordinary file"),
        ("empty.npz/below", "cannot be read: Not a directory"),
        ("nu\0ll", "cannot be read: "),
        ("n" * 300, "cannot be read: File name too long"),
    ],
)
def test_what_cannot_be_read(tmp_path, name, words):
    (tmp_path / "empty.npz").touch()
    with pytest.raises(FileError) as caught:
        kind_of(tmp_path / name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
