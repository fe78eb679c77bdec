"""Tensors in files of other libraries: PyTorch's without PyTorch, shards, settings; and whatever is
wrong with them is one line, and nothing in them is executed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import shutil
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import fuzz_tensors
import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder.errors import FileError
from reftranscoder.files import pickled, plain_yaml, schema
from reftranscoder.files.container import inside, json_of, open_container
from reftranscoder.files.npz import find_arrays
from reftranscoder.files.pickled import Name, Record, load
from reftranscoder.files.torch_zip import CONFIGURATIONS, read_torch

GOLDEN = Path(__file__).parent / "golden" / "formats"


# The machine of pickles.

COMMAND = "touch executed"
CALLING = {
    "REDUCE": b"cos\nsystem\n(X\x0e\x00\x00\x00touch executedtR.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93(X\x0e\x00\x00\x00touch executedtR.",
    "INST": b"(X\x0e\x00\x00\x00touch executedios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nX\x0e\x00\x00\x00touch executedo.",
    "NEWOBJ": b"cos\nsystem\n(X\x0e\x00\x00\x00touch executedt\x81.",
    "NEWOBJ_EX": b"\x80\x04cos\nsystem\n(X\x0e\x00\x00\x00touch executedt}\x92.",
    "BUILD": b"cos\nsystem\n}X\x04\x00\x00\x00nameX\x0e\x00\x00\x00touch executedsb.",
    "EXT1": b"\x82\x01(X\x0e\x00\x00\x00touch executedtR.",
    "EXT2": b"\x83\x01\x00(X\x0e\x00\x00\x00touch executedtR.",
    "EXT4": b"\x84\x01\x00\x00\x00(X\x0e\x00\x00\x00touch executedtR.",
    "PERSID": b"Pos.system\n.",
    "BINPERSID": b"X\x09\x00\x00\x00os.systemQ.",
    "GLOBAL": b"cos\nsystem\n.",
    "GLOBAL of a submodule": b"ctorch\nos.system\n(X\x0e\x00\x00\x00touch executedtR.",
    "GLOBAL of a builtin": b"c__builtin__\neval\n(X\x01\x00\x00\x001tR.",
    "getattr": b"cbuiltins\ngetattr\n(ctorch\nFloatStorage\nX\x08\x00\x00\x00__init__tR.",
}


def torch_zip(content, *, name="archive", storages=(), byteorder=b"little"):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(f"{name}/data.pkl", content)
        archive.writestr(f"{name}/byteorder", byteorder)
        for key, raw in enumerate(storages):
            archive.writestr(f"{name}/data/{key}", raw)
    return made.getvalue()


@pytest.mark.parametrize("operation", CALLING)
def test_what_can_call_calls_nothing(operation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "ae.pt"
    path.write_bytes(torch_zip(CALLING[operation]))
    with pytest.raises(FileError) as caught:
        rt.load(path)
    assert "\n" not in str(caught.value)
    assert os.listdir() == ["ae.pt"]


def test_those_pickles_are_live(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for operation in ("REDUCE", "STACK_GLOBAL", "INST", "OBJ"):
        pickle.loads(CALLING[operation])
        os.unlink("executed")


def test_every_operation_is_read_as_python_reads_it_or_refused():
    plain = [1, -2, 2**40, -(2**80), 1.5, "text", "é" * 300, b"bytes", None, True, (), (1,), (1, 2),
             (1, 2, 3), (1, 2, 3, 4), [], {}, {"a": [1, {"b": (2,)}]}, list(range(2000)),
             {str(n): n for n in range(2000)}]  # fmt: skip
    shared = [1]
    plain += [[shared, shared]]
    for protocol in (2, 3, 4, 5):
        for value in plain:
            if isinstance(value, bytes) and protocol < 3:
                continue
            assert load(pickle.dumps(value, protocol), {}) == value
    back = load(pickle.dumps([shared, shared], 2), {})
    assert back[0] is back[1]


@pytest.mark.parametrize(
    "content",
    [b"", b".", b"0.", b"(.", b"t.", b"]a.", b"}s.", b"h\x00.", b"q\x00.", b"N", b"NN.", b"R.",
     b"(" * 5000 + b".", b"]2" * 5000 + b".", b"\x8b\xff\xff\xff\x7f.",
     b"\x8d" + b"\xff" * 8 + b".",
     b"}]Ns.", b"}N", b"NNb.", b"]Nu.", b"I" + b"9" * 5000 + b"\n."],
)  # fmt: skip
def test_pickles_that_make_no_sense(content):
    with pytest.raises(ValueError):
        load(content, {})


def test_a_pickle_may_be_deep_and_refer_to_itself():
    deep = load(b"]" + b"]" * 20_000 + b"a" * 20_000 + b".", {})
    assert isinstance(deep, list)
    itself = load(b"]q\x00h\x00a.", {})
    assert itself[0] is itself


def test_a_pickle_that_is_too_large_is_refused():
    with pytest.raises(ValueError, match="bytes, and weights need fewer"):
        load(b"N" * 2_000_000, {})
    with pytest.raises(ValueError, match="more operations"):
        load(b"N0" * 100_000 + b"N.", {})


def test_a_short_pickle_does_not_copy_one_list_again_and_again(tmp_path):
    """Each of these copies would be of thousands of entries, and all of them be kept."""

    def read(content):
        (tmp_path / "x.pt").write_bytes(torch_zip(content))
        return read_torch(tmp_path / "x.pt")

    numbers, pairs = b"](" + b"N" * 3000 + b"e", b"](" + b"X\x01\x00\x00\x00aN\x86" * 3000 + b"e"
    made_of = ((b"torch\nSize", numbers, 3000), (b"collections\nOrderedDict", pairs, 1))
    for name, held, size in made_of:
        assert len(read(held + b"q\x000c" + name + b"\nh\x00\x85R.")) == size
        again = b"c" + name + b"\nq\x010" + b"h\x01h\x00\x85R" * 1000 + b"t."
        with pytest.raises(FileError, match="more operations"):
            read(held + b"q\x000(" + again)
    module, _, last = CONFIGURATIONS[0].rpartition(".")
    made = f"c{module}\n{last}\n".encode() + b")\x81"
    state = b"}(" + b"".join(b"X\x04\x00\x00\x00%04dN" % n for n in range(3000)) + b"uq\x000"
    assert len(read(state + made + b"h\x00b.").attributes) == 3000
    with pytest.raises(FileError, match="more operations"):
        read(state + made + b"h\x00b" * 100 + b".")


def test_attributes_of_a_class_that_is_not_here_are_data():
    names = {"a.B": Name("a.B", lambda: Record("a.B"))}
    made = load(b"\x80\x02ca\nB\n)\x81}X\x01\x00\x00\x00kK\x03sb.", names)
    assert (made.name, made.attributes) == ("a.B", {"k": 3})


# Tensors, as torch.save leaves them.


def test_every_tensor_is_read_to_the_bit():
    found = open_container(GOLDEN / "torch" / "tensors.pt")
    with np.load(GOLDEN / "torch" / "expect.npz") as expected:
        assert set(expected) == set(found.tensors)
        for name, want in expected.items():
            got = found.tensors[name].read()
            assert got.shape == want.shape and got.dtype == want.dtype, name
            assert got.tobytes() == want.tobytes(), name
    assert found.values["text"] == "word" and found.values["list"] == [1, 2.5, None]
    assert found.values["nested"]["a"].shape == (10,)


def test_what_lies_as_numpy_has_it_is_mapped():
    found = open_container(GOLDEN / "torch" / "tensors.pt").tensors
    rows = found["rows"].read()
    assert isinstance(rows.base, np.memmap) and not rows.flags.writeable
    assert found["transposed"].read().flags.owndata


def tensor(shape, strides, *, first=0, count=6, key="0"):
    """A pickle of ``{"w": tensor}`` over a storage of ``count`` float32."""

    def numbers(values):
        return b"(" + b"".join(b"L%dL\n" % v for v in values) + b"t"

    reference = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00" + key.encode()
    reference += b"X\x03\x00\x00\x00cpuL%dL\ntQ" % count
    made = b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference + b"L%dL\n" % first
    made += numbers(shape) + numbers(strides) + b"\x89N" + b"tR"
    return b"\x80\x02}X\x01\x00\x00\x00w" + made + b"s."


SIX = np.arange(6, dtype="<f4").tobytes()


def opened(tmp_path, content, storages=(SIX,), **options):
    path = tmp_path / "w.pt"
    path.write_bytes(torch_zip(content, storages=storages, **options))
    return open_container(path).tensors["w"]


def test_strides_are_honoured(tmp_path):
    assert np.array_equal(opened(tmp_path, tensor((2, 3), (1, 2))).read(), [[0, 2, 4], [1, 3, 5]])
    assert np.array_equal(opened(tmp_path, tensor((2,), (3,), first=2)).read(), [2, 5])


@pytest.mark.parametrize(
    "content",
    [
        tensor((7,), (1,)),
        tensor((2, 3), (3, 1), first=1),
        tensor((10**12,), (0,)),
        tensor((10**12,), (1,), count=10**12),
        tensor((2,), (-1,), first=1),
        tensor((-2,), (1,)),
        tensor((2, 3), (3,)),
        tensor((1,) * 9, (1,) * 9),
        tensor((6,), (1,), key="9"),
        tensor((6,), (1,), count=5),
        tensor((6,), (1,), count=-6),
        tensor((2**62, 2**62), (0, 0)),
    ],
)
def test_tensors_that_do_not_lie_in_their_storage(tmp_path, content):
    with pytest.raises(FileError, match="cannot be read as PyTorch's"):
        opened(tmp_path, content)


def test_numbers_of_the_other_byte_order(tmp_path):
    with pytest.raises(FileError, match="are big-endian"):
        opened(tmp_path, tensor((6,), (1,)), byteorder=b"big")


def test_a_flipped_bit_in_a_storage_is_found(tmp_path):
    content = bytearray((GOLDEN / "dictionary_learning-TopK" / "ae.pt").read_bytes())
    rows = open_container(GOLDEN / "dictionary_learning-TopK" / "ae.pt").tensors["encoder.weight"]
    content[rows.start + 5] ^= 4
    (tmp_path / "ae.pt").write_bytes(content)
    with pytest.raises(FileError, match="a checksum in it does not agree"):
        open_container(tmp_path / "ae.pt").tensors["encoder.weight"].read()


def test_a_bare_pickle_by_the_name_of_weights(tmp_path):
    (tmp_path / "sae.safetensors").write_bytes(CALLING["REDUCE"])
    with pytest.raises(FileError, match="holds no tensors by name|this is"):
        open_container(tmp_path / "sae.safetensors")
    (tmp_path / "sae.safetensors").write_bytes(pickle.dumps([1], 2))
    with pytest.raises(FileError, match="It could run any code"):
        open_container(tmp_path / "sae.safetensors")


# safetensors by their headers, and shards.


def safetensors(header, data=b""):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    return len(text).to_bytes(8, "little") + text + data


def entry(shape, start, stop, dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (safetensors({"a": entry((2,), 0, 8), "b": entry((2,), 4, 12)}, bytes(12)), "begins at"),
        (safetensors({"a": entry((2,), 0, 8), "b": entry((2,), 12, 20)}, bytes(20)), "begins at"),
        (safetensors({"a": entry((2,), 0, 8)}, bytes(12)), "12 follow it"),
        (safetensors({"a": entry((10**12,), 0, 4 * 10**12)}, bytes(8)), "8 follow it"),
        (safetensors({"a": entry((3,), 0, 8)}, bytes(8)), "another number of bytes"),
        (safetensors({"a": entry((2,), 0, 8, "F6_E2M3")}, bytes(8)), "holds F6_E2M3"),
        ((10**12).to_bytes(8, "little") + b"{}", "it is a file of unknown format"),
        (safetensors({"a": entry((2,), 0, 8)}, bytes(4)), "4 follow it"),
    ],
)
def test_headers_that_lie(tmp_path, content, words):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileError, match=words):
        open_container(path)


def every(dtype):
    bits = np.arange(2 ** (8 * np.dtype(dtype).itemsize), dtype=np.uint32)
    return bits.astype(np.uint8 if np.dtype(dtype).itemsize == 1 else np.uint16).view(dtype)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "bfloat16", "float16"])
def test_every_number_of_a_narrow_type_is_widened_exactly(tmp_path, name):
    numpy = pytest.importorskip("safetensors.numpy")
    dtype = np.float16 if name == "float16" else getattr(pytest.importorskip("ml_dtypes"), name)
    values = every(dtype)
    numpy.save_file({"a": values}, tmp_path / "x.safetensors")
    got = open_container(tmp_path / "x.safetensors").tensors["a"].read()
    assert got.dtype == np.float32
    finite = np.isfinite(got)
    want = [float(value) for value in values[finite]]  # Python's own, one at a time
    assert got[finite].tolist() == want and finite.sum() > len(values) // 2


def index(folder, **names):
    (folder / "x.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return folder / "x.safetensors.index.json"


def test_shards(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.safetensors").write_bytes(
            safetensors({name: entry((1,), 0, 4)}, np.float32(ord(name)).tobytes())
        )
    found = open_container(index(tmp_path, a="a.safetensors", b="b.safetensors"))
    assert {n: t.read()[0] for n, t in found.tensors.items()} == {"a": 97, "b": 98}
    with pytest.raises(FileError, match="has c, and it has not"):
        open_container(index(tmp_path, c="a.safetensors"))
    for name in ("../a.safetensors", "/etc/passwd", "..", "", "d\\a", "x.safetensors.index.json"):
        with pytest.raises(FileError, match="names (a file outside|another index)"):
            open_container(index(tmp_path, a=name))


def test_links_lead_nowhere_but_into_the_blobs_of_the_hub(tmp_path):
    hub = tmp_path / "models--a--b"
    snapshot = hub / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (hub / "blobs").mkdir()
    (hub / "blobs" / "deadbeef").write_bytes(b"x")
    (tmp_path / "elsewhere").write_bytes(b"x")
    (snapshot / "good").symlink_to("../../blobs/deadbeef")
    (snapshot / "bad").symlink_to("../../../elsewhere")
    assert inside(snapshot, "good").read_bytes() == b"x"
    for name in ("bad", "../../../elsewhere"):
        with pytest.raises(FileError, match="leads out of its folder"):
            inside(snapshot, name)


@pytest.mark.parametrize("name", ["a\0b", "loop", "a" * 5000])
def test_a_name_that_can_be_no_file(tmp_path, name):
    """A link in a circle, and names that the system refuses."""
    odd = "is no file in its folder|too long|[Ss]ymbolic links"  # Python 3.13 follows no circle
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FileError, match=odd):
        open_container(index(tmp_path, a=name))
    (tmp_path / "sae.safetensors").symlink_to("sae.safetensors")
    with pytest.raises(FileError, match=odd):
        rt.load(tmp_path)
    with pytest.raises(FileError, match=odd):
        rt.scan(tmp_path)


def test_a_file_of_before_pytorch_1_6(tmp_path):
    (tmp_path / "ae.pt").write_bytes(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + bytes(100))
    with pytest.raises(FileError, match="saved by PyTorch before 1.6, as a bare pickle. Save it"):
        rt.load(tmp_path)


# Settings.


def test_yaml_is_read_as_a_table():
    text = (GOLDEN / "circuit_tracer" / "config.yaml").read_text()
    assert plain_yaml.parse(text) == {
        "model_name": "google/gemma-2-2b",
        "model_kind": "transcoder_set",
        "feature_input_hook": "ln2.hook_normalized",
        "feature_output_hook": "hook_mlp_out",
        "scan": ["gemma"],
        "transcoders": [],
    }
    nested = "a:\n  - id: x\n    layer: 3\n  - id: 'y'\n    ok: true\nb: 1.5\nc:\n"
    assert plain_yaml.parse(nested) == {
        "a": [{"id": "x", "layer": 3}, {"id": "y", "ok": True}],
        "b": 1.5,
        "c": None,
    }


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['touch executed']",
        "model:\n  class_path: &x os.system\n",
        "a: *x",
        "<<: {a: 1}",
        "a: {b: 1}",
        "a: [1, 2]",
        "a: |\n  text",
        "a: 1\na: 2",
        "--- a: 1",
        "a\tb: 1",
        'a: "\\x41"',
        "a: b: c",
        "just a text",
        "a:\n    b: 1\n  c: 2",
    ],
)
def test_yaml_that_means_more_is_refused(text):
    with pytest.raises(ValueError):
        plain_yaml.parse(text)


def test_settings_that_name_a_class_are_one_line(tmp_path, monkeypatch):
    for file in ("layer_7.safetensors", "config.yaml"):
        (tmp_path / file).write_bytes((GOLDEN / "circuit_tracer" / file).read_bytes())
    with (tmp_path / "config.yaml").open("a") as file:
        file.write("model: !!python/object/apply:os.system ['touch executed']\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match="is more than a table of settings"):
        rt.load(tmp_path)
    assert "executed" not in os.listdir()


def test_comments_are_none_of_the_texts():
    assert plain_yaml.parse("a: 'b # c'  # d\n# e\n  # f\ng: h#i") == {"a": "b # c", "g": "h#i"}


def test_a_name_given_twice_is_named():
    names = ",".join(f'"{n}": 1' for n in range(3000))
    with pytest.raises(ValueError, match="it gives '2999' twice"):
        schema.parse("{" + names + ', "2999": 1}')


def test_a_shard_that_is_a_link_out_of_the_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.safetensors").write_bytes(safetensors({"a": entry((1,), 0, 4)}, bytes(4)))
    (tmp_path / "folder" / "a.safetensors").symlink_to(tmp_path / "a.safetensors")
    with pytest.raises(FileError, match="leads out of its folder"):
        open_container(index(tmp_path / "folder", a="a.safetensors"))


@pytest.mark.parametrize("name", ["ae.pt", "params.npz", "sae.safetensors", "m.bin"])
def test_a_pickle_under_any_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in (CALLING["REDUCE"], b"\x80\x04" + CALLING["REDUCE"]):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileError):
            rt.load(tmp_path / name)
    assert os.listdir() == [name]


def test_arrays_without_number(tmp_path):
    np.savez(tmp_path / "params.npz", **{str(n): np.zeros(1) for n in range(1001)})
    with pytest.raises(FileError, match="holds 1,001 arrays"):
        rt.load(tmp_path / "params.npz")


# Length: what is longer than a transcoder has need of is refused before it is looked at.


@pytest.fixture
def unread(monkeypatch):
    """Nothing that takes a long text or table apart may be called."""

    def called(*_, **__):
        raise AssertionError("what is too long was taken apart")

    monkeypatch.setattr("reftranscoder.files.schema.json.loads", called)
    monkeypatch.setattr("reftranscoder.files.pickled.pickletools.genops", called)
    monkeypatch.setattr("reftranscoder.files.archive.zipfile.ZipFile", called)


def many_members(count):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number:050}.npy", b"")
    return made.getvalue()


def test_a_header_of_more_than_a_megabyte(tmp_path, unread):
    path = tmp_path / "x.safetensors"
    for count in (500_000, 5_000_000):
        header = b'{"a":[' + b"[]," * count + b"[]]}"
        path.write_bytes(safetensors(header))
        with pytest.raises(FileError, match=f"its header has {len(header)} bytes by its first ei"):
            open_container(path)


def test_a_table_of_more_than_a_megabyte(tmp_path, monkeypatch):
    content = many_members(10_001)
    monkeypatch.setattr("zipfile.ZipFile", lambda *_: 1 / 0)
    path = tmp_path / "params.npz"
    path.write_bytes(content)
    with pytest.raises(FileError, match="a truncated or damaged archive|damaged zip"):
        rt.load(path)
    with pytest.raises(FileError, match="its table of contents is too long"):
        find_arrays(path)


def test_a_pickle_of_more_than_a_megabyte(tmp_path, monkeypatch):
    monkeypatch.setattr("pickletools.genops", lambda *_: 1 / 0)
    content = b"\x80\x02" + b"]" * 1_000_000 + b"."
    (tmp_path / "ae.pt").write_bytes(torch_zip(content))
    with pytest.raises(FileError, match="its data.pkl has 1000003 bytes"):
        read_torch(tmp_path / "ae.pt")


def test_settings_of_more_than_a_megabyte(tmp_path, unread):
    (tmp_path / "cfg.json").write_text('{"a":"' + "x" * 1_000_000 + '"}')
    with pytest.raises(FileError, match="is longer than 1,000,000 bytes"):
        json_of(tmp_path / "cfg.json")
    (tmp_path / "cfg.json").unlink()
    os.mkfifo(tmp_path / "cfg.json")  # a reader would wait for a writer
    with pytest.raises(FileError, match="is not an ordinary file"):
        json_of(tmp_path / "cfg.json")
    with pytest.raises(ValueError, match="too long"):
        plain_yaml.parse("a: 1\n" * 20_001)


@pytest.mark.parametrize("operation", [b"]", b"}", b"(", b"]\x94", b"Nq\x00", b"2"])
def test_a_pickle_within_the_limit_takes_no_more_than_its_operations(operation):
    """100,000 of them, each of an object, its places on the stack and in the memory of the pickle:
    none has 500 bytes."""
    content = b"\x80\x04]" + operation * (999_990 // len(operation)) + b"."
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more operations than weights need"):
            pickled.load(content, {})
        assert tracemalloc.get_traced_memory()[1] < 100_000 * 500
    finally:
        tracemalloc.stop()


# Damage.


@pytest.mark.parametrize("name", sorted({path.parts[-2] for path in GOLDEN.glob("*/*.json")}))
def test_a_setting_that_is_missing(name, tmp_path):
    """Each in turn: a transcoder, or one line."""
    shutil.copytree(GOLDEN / name, tmp_path / name)
    for path in sorted((tmp_path / name).rglob("*.json")):
        settings = json.loads(path.read_text())
        for setting in settings:
            path.write_text(json.dumps({k: v for k, v in settings.items() if k != setting}))
            with contextlib.suppress(FileError):
                rt.load(tmp_path / name)
        path.write_text(json.dumps(settings))
    assert rt.load(tmp_path / name)


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["in_norm", "out_norm"])
def test_a_norm_that_is_no_number_above_zero(name, norm, tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    shutil.copytree(GOLDEN / "clt_training_clt-untied", tmp_path / "clt")
    path = tmp_path / "clt" / "layers.9.mlp" / "sae.safetensors"
    tensors = numpy.load_file(path)
    numpy.save_file(tensors | {name: np.full_like(tensors[name], norm)}, path)
    with pytest.raises(FileError, match=f"{name} must be a number above 0; it is {norm}"):
        rt.load(tmp_path / "clt")


def test_what_overflows_as_it_is_folded_is_a_line_and_no_warning(tmp_path):
    """pytest makes an error of a warning."""
    shutil.copytree(GOLDEN / "llama_scope-transcoder", tmp_path / "folder")
    path = tmp_path / "folder" / "hyperparams.json"
    settings = json.loads(path.read_text())
    for number in (1e-300, 1e300):
        norms = {"in": 1.0, "out": 1.0 / number}
        path.write_text(json.dumps(settings | {"dataset_average_activation_norm": norms}))
        with contextlib.suppress(FileError):
            rt.load(tmp_path / "folder")
    path.write_text(json.dumps(settings | {"jump_relu_threshold": 1e300}))
    with pytest.raises(FileError, match="theta must be finite"):
        rt.load(tmp_path / "folder")
    rt.scan(tmp_path)


@pytest.mark.parametrize("kind", fuzz_tensors.DAMAGE)
def test_whatever_the_bytes(kind, tmp_path):
    seen = [outcome for outcome, _ in fuzz_tensors.outcomes(kind, 40, 1, tmp_path)]
    assert "refused" in seen


def test_settings_whatever_the_bytes():
    fuzz_tensors.yaml_outcomes(200, 1)


def flipped(content, rng):
    damaged = bytearray(content)
    damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def test_no_flipped_bit_loads_other_weights(tmp_path):
    pytest.importorskip("safetensors")
    tc = rt.build(input_size=6, output_size=5, dict_size=16, top_k=3, skip=True)
    path, rng = tmp_path / "model.safetensors", random.Random(0)
    tc.save(path)
    content, refused = path.read_bytes(), 0
    for _ in range(100):
        path.write_bytes(flipped(content, rng))
        try:
            back = rt.load(path)
        except FileError:
            refused += 1
            continue
        assert back.config == tc.config
        for name, array in tc.params.arrays().items():
            assert array.tobytes() == back.params.arrays()[name].tobytes()
    assert refused > 90


def test_a_file_from_before_there_were_checksums_still_loads(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    from reftranscoder.formats import Model
    from reftranscoder.formats.native import meta_of

    tc = rt.build(input_size=6, output_size=5, dict_size=16, top_k=3)
    meta = meta_of(Model(tc.config, tc.params))
    numpy.save_file(tc.params.arrays(), tmp_path / "old.safetensors", metadata={"meta": meta})
    assert rt.load(tmp_path / "old.safetensors").config == tc.config


def test_the_checksum_is_the_one_that_is_documented(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    tc = rt.build(input_size=2, output_size=3, dict_size=4, top_k=1)
    tc.save(tmp_path / "m.safetensors")
    with safetensors.safe_open(tmp_path / "m.safetensors", "numpy") as file:
        content = json.loads(file.metadata()["meta"])
        kept = content.pop("crc32")
        assert kept["b_dec"] == zlib.crc32(b"float32[3]" + file.get_tensor("b_dec").tobytes())
        assert kept["meta"] == zlib.crc32(json.dumps(content).encode())
