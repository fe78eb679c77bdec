"""Files with wrong bytes, and files with wrong content whose checksums are right: each is read as
what it says, or refused in one line.

    python tests/fuzz.py --minutes 10              # every kind of file in turn, new ones each time
    python tests/fuzz.py --count 100000 --kind checkpoint --seed 1

Prints, by kind, how many files were tried, accepted and refused, and the peak of memory above that
at the start; exits with 1 if anything but a line of ours came out (a traceback, a message of two
lines, a warning, memory beyond the file's size and 100 MB, a checkpoint that goes on to other
bits).  One file in a hundred also goes through the command line.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import itertools
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import unittest.mock
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import reftranscoder as rt
from reftranscoder import cli
from reftranscoder.auditor.probes import case_folder
from reftranscoder.errors import Error
from reftranscoder.files.npz import write_arrays
from reftranscoder.training import checkpoint as checkpoints

SPARE = 100_000_000  # bytes of memory, beyond the size of the file
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3.5, -0.0, 1e308, float("nan"), float("inf"), 2**31, 2**63,
    10**40, 10**400, "", "word", "\x1b[31m\n", "float32", "meta", "W_enc", [], {}, [[]], [0], [-1],
    [1e400], ["x"], {"": 0}, [[1, 2], [3]],
]  # fmt: skip
DTYPES = ("<f4", "<f8", ">f4", "<f2", "<i8", "|b1", "<U3", "|S4", "|O", "<c8", "|V2", "<M8[s]",
          "<U0", "|u1", [("a", "<f4")], "f4, f4", "x", None, 4, "<f16")  # fmt: skip
SHAPES = ((), (0,), (1,), (2, 3), (-1,), (10**18,), (2**62, 2**62), (0, 10**30), (3, 4, 5), (1.5,),
          "x", None, (True,), (1,) * 70)  # fmt: skip
TENSOR_DTYPES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3",
                 "I8", "U64", "BOOL", "C64", "X", "")  # fmt: skip


class Kind(NamedTuple):
    """A kind of file: how a good one is made, how it is used, and by which command."""

    name: str
    make: Callable[[Path], None]
    use: Callable[[Path], object]
    command: Callable[[Path], list[str]]


def rows(columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((12, columns)).astype(np.float32)


def small() -> rt.Transcoder:
    return rt.build(input_size=3, output_size=2, dict_size=4, top_k=2, skip=True)


def small_cross_layer() -> rt.CrossLayerTranscoder:
    rng = np.random.default_rng(0)
    return rt.CrossLayerTranscoder.from_arrays(
        W_enc=rng.standard_normal((2, 4, 3)),
        b_enc=np.zeros((2, 4)),
        W_dec=[rng.standard_normal((4, 2 - l, 2)) for l in range(2)],
        b_dec=np.zeros((2, 2)),
        post_enc=[rng.standard_normal((4, 2 - l)) for l in range(2)],
        top_k=2,
    )


FIT = {"dict_size": 4, "top_k": 2, "steps": 4, "batch_size": 6, "log_every": 2}
FIT |= {"backend": "reference", "validation": 0.25}


def fit(path: Path):
    def stop(told):
        if told.step == 3:
            raise KeyboardInterrupt

    return rt.fit(rows(3, 0), rows(2, 1), **FIT, checkpoint=path, progress=stop)


class CheckpointRead:
    """Reads checkpoints as `fit` does; what is accepted has to be what was written."""

    def __init__(self) -> None:
        self.asked: tuple = ()  # what `fit` asks of a checkpoint, beside its path
        self.written: bytes | None = None

    def make(self, path: Path) -> None:
        def remember(path, *asked):
            self.asked = asked
            return checkpoints.load(path, *asked)

        fit(path)
        with unittest.mock.patch("reftranscoder.training.fitting.load", remember):
            fit(path)
        self.written = self.state(path)

    def state(self, path: Path) -> bytes:
        run = checkpoints.load(path, *self.asked)
        arrays = [a.tobytes() for g in ("arrays", "m", "v") for a in vars(run.state)[g].values()]
        return b"".join(arrays) + repr((run.state.t, run.losses, run.entries)).encode()

    def use(self, path: Path) -> None:
        found = self.state(path)
        if self.written is not None and found != self.written:
            raise AssertionError("a checkpoint is accepted that is not what was written")


def make_case(path: Path) -> None:
    tc, x, target = small(), rows(3, 0), rows(2, 1)
    stages = {n: np.asarray(getattr(s, "toarray", lambda s=s: s)())
              for n, s in tc.stages(x, target).items()}  # fmt: skip
    arrays = {**tc.params.arrays(), "x": x, "target": target, "top_k": np.array(2)}
    arrays |= {f"result.{name}": stage for name, stage in stages.items()}
    if path.suffix == ".npz":
        with open(path, "wb") as file:
            write_arrays(file, arrays | {"meta": np.array('{"ties": "lowest_index"}')})
    else:
        from safetensors.numpy import save_file

        save_file(arrays, path, metadata={"meta": '{"activation": "topk"}'})


def read_case(path: Path) -> None:
    list(case_folder.answers_in(path).read())


def make_folder(path: Path) -> None:
    """The description of one case; its arrays lie beside it, whole."""
    folder = path.parent / "cases"
    if not folder.exists():
        case_folder.write_cases(folder)
    name = json.loads((folder / "cases.json").read_text())["cases"][0]
    shutil.copy(folder / name / "input.npz", path.parent / "input.npz")
    shutil.copy(folder / name / "case.json", path)


def kinds() -> list[Kind]:
    checkpoint = CheckpointRead()
    data = {"x.npy": rows(3, 0), "y.npy": rows(2, 1)}

    def fit_command(path: Path) -> list[str]:
        for name, array in data.items():
            np.save(path.parent / name, array)
        options = [f"--{k.replace('_', '-')}={v}" for k, v in FIT.items()]
        paths = [str(path.parent / name) for name in data]
        out = ["-o", str(path.parent / "out.npz"), "--force", "--checkpoint", str(path)]
        return ["fit", *paths, *options, *out]

    def save(path: Path) -> None:
        small().save(path)

    def info(path: Path) -> list[str]:
        return ["info", str(path)]

    def audit(path: Path) -> list[str]:
        return ["audit", str(path)]

    found = [
        Kind("model.npz", save, rt.load, info),
        Kind("cross_layer.npz", lambda path: small_cross_layer().save(path), rt.load, info),
        Kind("checkpoint.npz", checkpoint.make, checkpoint.use, fit_command),
        Kind("case.npz", make_case, read_case, audit),
        Kind("case.json", make_folder, lambda p: read_case(p.parent), lambda p: audit(p.parent)),
        Kind(
            "x.npy",
            lambda path: np.save(path, rows(3, 0)),
            lambda path: rt.Activations(path).check(),
            lambda path: ["info", str(path.parent / "tc.npz"), str(path)],
        ),
    ]
    if case_folder.has_safetensors():
        found[2:2] = [Kind("model.safetensors", save, rt.load, info)]
        found[5:5] = [Kind("case.safetensors", make_case, read_case, audit)]
    return found


# What is done to a file.


def wrong_bytes(rng: random.Random, content: bytes) -> bytes:
    changed, place = bytearray(content), rng.randrange(len(content))
    way = rng.randrange(5)
    if way == 0:
        changed[place] ^= 1 << rng.randrange(8)
    elif way == 1:
        del changed[place:]
    elif way == 2:
        changed[place:place] = rng.randbytes(rng.randrange(1, 40))
    elif way == 3:
        changed[place : place + 8] = rng.choice([b"\0" * 8, b"\xff" * 8, rng.randbytes(8)])
    else:
        changed += rng.randbytes(rng.randrange(1, 100))
    return bytes(changed)


def wrong_json(rng: random.Random, text: str) -> str:
    """A value, a name or the text itself becomes another."""
    try:
        content = json.loads(text)
    except ValueError:
        return text
    way = rng.randrange(8)
    if way == 0:
        return rng.choice(["", "{", "[" * 100_000, "null", "[1]", '"x"', "{}", "NaN", text * 2])
    if way == 1:  # a name twice
        return text.replace("{", '{"version": 1, "version": 2, "t": 1, "t": 2, ', 1)
    places = []

    def walk(value):
        if isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in list(items):
                places.append((value, key))
                walk(item)

    walk(content)
    if not places:
        return json.dumps(rng.choice(VALUES))
    owner, key = rng.choice(places)
    if way == 2:
        del owner[key]
    elif way == 3 and isinstance(owner, dict):
        owner[str(rng.choice(VALUES))] = owner.pop(key)
    elif way == 4:  # two values exchanged
        other, other_key = rng.choice(places)
        owner[key], other[other_key] = copy.deepcopy(other[other_key]), copy.deepcopy(owner[key])
    elif way == 5 and isinstance(owner[key], int | float):
        owner[key] = owner[key] + rng.choice([1, -1, 1e-9, 0.5, -(10**9)])
    else:
        owner[key] = copy.deepcopy(rng.choice(VALUES))
    with contextlib.suppress(ValueError, RecursionError):
        return json.dumps(content)
    return text


def as_npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def wrong_npy(rng: random.Random, content: bytes) -> bytes:
    """Another header, other entries, or what is no array at all."""
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception:
        return wrong_bytes(rng, content or b"\0")
    way = rng.randrange(8)
    if array.dtype.kind == "U" and way < 6:
        return as_npy(np.array(wrong_json(rng, str(array))))
    if way == 0:
        return rng.choice([b"", b"hello", content[:20], content[6:], b"\x93NUMPY", content * 2])
    if way == 1:
        header = {"descr": rng.choice(DTYPES), "fortran_order": rng.random() < 0.2,
                  "shape": rng.choice([array.shape, *SHAPES])}  # fmt: skip
        text = repr(header).encode() if rng.random() < 0.9 else rng.randbytes(60)
        head = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
        return head + array.tobytes()
    if way == 2:
        return as_npy(rng.choice([array.T, array[..., None], array.ravel(), array[:1] if
                                  array.ndim else array, np.zeros(0), np.float64(1)]))  # fmt: skip
    if way == 3:
        kind = rng.choice(["f2", "f8", "i8", "?", "U4", "S3", "c16", ">f4", "g"])
        with contextlib.suppress(ValueError, TypeError), np.errstate(all="ignore"):
            return as_npy(array.astype(kind))
    if way == 4:
        return as_npy(np.array([None, {}], dtype=object))
    if array.size and array.dtype.kind == "f":
        array = array.copy()
        array.flat[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, -np.inf, 1e30, -1, 0])
    return as_npy(array)


def wrong_zip(rng: random.Random, content: bytes) -> bytes:
    """Members changed and put back with their checksums, or a table that promises the wrong."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    way, place = rng.randrange(9), rng.randrange(len(members))
    name, body = members[place]
    compressed = zipfile.ZIP_STORED
    if way < 4:
        members[place] = name, wrong_npy(rng, body)
    elif way == 4:
        del members[place]
    elif way == 5:
        members.append((rng.choice([name, "x.npy", ".npy", "a/b.npy", "x", "meta"]), body))
    elif way == 6:
        other = rng.randrange(len(members))
        members[place], members[other] = (name, members[other][1]), (members[other][0], body)
    elif way == 7:
        members[place] = rng.choice(["b_enc.npy", "y.npy", "W_skip.npy", "\x1b.npy"]), body
    else:
        compressed = zipfile.ZIP_DEFLATED
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compressed, compresslevel=1) as archive:
        for name, body in members:
            archive.writestr(name, body)
        if compressed and rng.random() < 0.02:  # a large array in a small file
            with archive.open("large.npy", "w") as file:
                np.lib.format.write_array_header_1_0(
                    file, {"descr": "|u1", "fortran_order": False, "shape": (300_000_000,)}
                )
                for _ in range(300):
                    file.write(bytes(1_000_000))
    return buffer.getvalue()


def wrong_safetensors(rng: random.Random, content: bytes) -> bytes:
    """The header changed, with its length put right."""
    length = int.from_bytes(content[:8], "little")
    text, body = content[8 : 8 + length].decode(), content[8 + length :]
    way = rng.randrange(4)
    if way == 0:
        header = json.loads(text)
        entry = header[rng.choice([n for n in header if n != "__metadata__"])]
        if rng.random() < 0.5:
            entry["dtype"] = rng.choice(TENSOR_DTYPES)
        else:
            size = entry["data_offsets"][1] - entry["data_offsets"][0]
            entry["dtype"], entry["shape"] = rng.choice([("F8_E4M3", [size]), ("F4", [2 * size]),
                ("I8", [size]), ("U8", [1, size]), ("F64", [size // 8])])  # fmt: skip
        text = json.dumps(header)
    elif way == 1:  # names of tensors and of texts exchanged
        header = json.loads(text)
        names = list(header)
        one, other = rng.choice(names), rng.choice(names)
        header[one], header[other] = header[other], header[one]
        texts = header.get("__metadata__")
        if isinstance(texts, dict) and rng.random() < 0.5:
            texts[rng.choice(names)] = texts.pop(next(iter(texts), ""), "x")
        text = json.dumps(header)
    elif way == 2:
        header = json.loads(text)
        texts = header.get("__metadata__", {})
        if texts:
            key = next(iter(texts))
            texts[key] = wrong_json(rng, texts[key])
        text = json.dumps(header)
    else:
        text = wrong_json(rng, text)
    header_bytes = text.encode("utf-8", "surrogatepass")
    return len(header_bytes).to_bytes(8, "little") + header_bytes + body


def mutated(rng: random.Random, suffix: str, content: bytes) -> bytes:
    content_too = {
        ".npz": wrong_zip,
        ".safetensors": wrong_safetensors,
        ".npy": wrong_npy,
        ".json": lambda rng, c: wrong_json(rng, c.decode()).encode("utf-8", "surrogatepass"),
    }
    return (wrong_bytes if rng.random() < 0.2 else content_too[suffix])(rng, content)


# What comes of it.


def through_library(kind: Kind, path: Path) -> tuple[str, str | None]:
    """``accepted`` or ``refused``, and what is wrong with how."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            kind.use(path)
            outcome, message = "accepted", ""
        except Error as error:
            outcome, message = "refused", str(error)
        except Exception:
            return "fault", traceback.format_exc(limit=-4)
    if heard:
        return "fault", f"a warning: {heard[0].message}"
    if len(message) > 300 or not message.isprintable():
        return "fault", f"a message of {len(message)} characters: {message!r}"
    return outcome, None


def through_command_line(kind: Kind, path: Path) -> tuple[str, str | None]:
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = cli.main(kind.command(path))
    except BaseException:
        return "fault", traceback.format_exc(limit=-4)
    line = err.getvalue()
    if status not in (0, 2) and kind.command(path)[0] != "audit":
        return "fault", f"exit status {status}: {line!r}"
    if line.count("\n") > 1 or len(line) > 340 or (status == 2) != bool(line):
        return "fault", f"exit status {status} and {line!r}"
    return ("refused" if status == 2 else "accepted"), None


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(kind: Kind, seed: int, count: float, seconds: float, folder: Path) -> Counter:
    """Try files of one kind until there are ``count``, or for so many ``seconds``."""
    folder = folder / kind.name.replace(".", "-")
    folder.mkdir()
    path = folder / kind.name
    small().save(folder / "tc.npz")
    kind.make(path)
    content = path.read_bytes()
    kind.use(path)  # what is good is accepted, and what is loaded once is loaded
    through_command_line(kind, path)
    path.write_bytes(content)
    rng, counts = random.Random(f"{seed} {kind.name}"), Counter(faults=0)
    start, until = peak(), time.monotonic() + seconds
    for number in itertools.count():
        if number >= count or time.monotonic() > until:
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile's, of names that are there twice
            changed = mutated(rng, path.suffix, content)
        path.write_bytes(changed)
        size = path.stat().st_size
        ways = [through_library] if number % 100 else [through_library, through_command_line]
        for way in ways:
            outcome, fault = way(kind, path)
            counts[outcome] += 1
            if fault is None and peak() > start + size + SPARE:
                fault = f"memory: {(peak() - start) / 1e6:.0f} MB for a file of {size} bytes"
            if fault is not None:
                counts["faults"] += 1
                print(f"\n{kind.name}, seed {seed}, number {number}: {fault}", file=sys.stderr)
    counts["tried"] = number
    counts["MB at most"] = (peak() - start) // 1_000_000
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--count", type=float, default=float("inf"), help="of each kind, at most")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--kind", default="", help="only kinds with this in their name")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    chosen = [kind for kind in kinds() if options.kind in kind.name]
    seconds = 60 * options.minutes / max(len(chosen), 1)
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        for kind in chosen:
            counts = run(kind, seed, options.count, seconds, Path(folder))
            faults += counts["faults"]
            said = ", ".join(f"{n} {counts[n]:,}" for n in ("tried", "accepted", "refused",
                             "faults", "MB at most"))  # fmt: skip
            print(f"{kind.name:18} {said}", flush=True)
    print(f"seed {seed}: {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "100")
    sys.exit(main())
