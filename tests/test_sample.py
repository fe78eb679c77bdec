"""The packaged sample is what PROVENANCE.rst says it is."""

import hashlib
import re
from importlib import resources

import numpy as np
import pytest

from reftranscoder import sample
from reftranscoder.sample import make

FOLDER = resources.files(sample)


@pytest.fixture(scope="module")
def arrays():
    with np.load(FOLDER / sample.FILE, allow_pickle=False) as file:
        return dict(file)


def test_checksums_are_those_of_the_provenance(arrays):
    text = (FOLDER / "PROVENANCE.rst").read_text(encoding="utf-8")
    lines = re.findall(r"^ +([0-9a-f]{64} +\S+)$", text, re.M)
    listed = dict(reversed(line.split()) for line in lines)
    found = {name: sample.checksum(array) for name, array in arrays.items()}
    found[sample.FILE] = hashlib.sha256((FOLDER / sample.FILE).read_bytes()).hexdigest()
    assert {name: listed[name] for name in found} == found


def test_checksum_sees_a_changed_value(arrays):
    changed = arrays["x_scales"].copy()
    changed[0] = np.nextafter(changed[0], np.float32(np.inf))
    assert sample.checksum(changed) != sample.checksum(arrays["x_scales"])


def test_file_leaves_room_in_the_wheel():
    assert len((FOLDER / sample.FILE).read_bytes()) < 7.5e6


def test_load_gives_paired_rows_and_their_text(arrays):
    loaded = sample.load()
    assert loaded.x.shape == loaded.target.shape == (8192, 576)
    assert loaded.x.dtype == loaded.target.dtype == np.float32
    assert np.isfinite(loaded.x).all() and np.isfinite(loaded.target).all()
    assert loaded.tokens.shape == (64, 128)
    assert loaded.position.shape == (8192,)
    assert loaded.position[127] == 127 and loaded.position[128] == 0
    # A row's largest magnitude is the one that the scale sends to 127, exactly but for one product.
    largest = np.abs(loaded.x).max(axis=1)
    assert np.array_equal(largest, np.float32(127) * arrays["x_scales"])
    assert np.abs(arrays["x_codes"]).max() == 127
    norms = np.linalg.norm(loaded.target, axis=1)
    assert norms[loaded.position == 0].max() < 5 < np.median(norms[loaded.position > 0])


def test_tokens_are_text():
    tokens = sample.load().tokens
    passage = "".join(tokens[0])
    assert passage.startswith("4. A derogatory term for web designers and other persons")
    everything = "".join(tokens.ravel())
    assert "�" not in everything and "Ġ" not in everything
    assert "‘" in everything  # three bytes in two tokens, whole again


@pytest.mark.parametrize(
    "piece, text",
    [("Ġthe", b" the"), ("Ċ", b"\n"), ("âĢĺ", b"\xe2\x80\x98"), ("Ń", b"\xad"), ("", b"")],
)
def test_piece_bytes(piece, text):
    assert sample.piece_bytes(piece) == text


def test_every_byte_has_one_character():
    pieces = [chr(code) for code in range(33, 324)]
    known = []
    for piece in pieces:
        try:
            known.append(sample.piece_bytes(piece))
        except KeyError:
            pass
    assert sorted(known) == [bytes([byte]) for byte in range(256)]


def test_a_split_character_appears_at_its_last_token():
    assert sample.texts([b"a\xe2\x80", b"\x98", b"b"]) == ["a", "‘", "b"]


def test_quantize_rounds_to_nearest():
    rows = np.array([[127.0, 0.4, -0.6, 1.5], [0, 0, 0, 0], [-254, 3, 254, 2]])
    codes, scales = make.quantize(rows)
    assert codes.dtype == np.int8 and scales.dtype == np.float32
    assert codes.tolist() == [[127, 0, -1, 2], [0, 0, 0, 0], [-127, 2, 127, 1]]
    assert scales.tolist() == [1, 0, 2]
    assert make.relative_error(rows[:1], codes[:1], scales[:1]) == pytest.approx(
        np.sqrt((0.4**2 + 0.4**2 + 0.5**2) / (127**2 + 0.4**2 + 0.6**2 + 1.5**2)), rel=1e-12
    )


def test_make_keeps_the_values_and_the_text():
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(2, 6, 4))
    ids = np.array([[7, 9, 7], [40, 9, 8]])
    vocabulary = {"7": "a", "8": "Ġb", "9": "c", "40": "d"}
    arrays = make.make(x, target, ids, vocabulary)
    assert np.array_equal(arrays["token_ids"][arrays["tokens"]], ids)
    assert arrays["vocabulary"][arrays["tokens"]].tolist() == [["a", "c", "a"], ["d", "c", "Ġb"]]
    # Rounding to nearest is off by half a step at most; the step is rounded to float32, and so is
    # the product that undoes it.
    half_steps = np.abs(x).max(axis=1, keepdims=True) / 254 * (1 + 2**-15)
    stored = sample.dequantize(arrays["x_codes"], arrays["x_scales"])
    assert (np.abs(stored - x) <= half_steps).all()
