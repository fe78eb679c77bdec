"""Damage to other libraries' files: whatever the bytes, a transcoder or one line, and soon.

``python tests/fuzz_tensors.py [COUNT [SEED [KIND ...]]]`` tries COUNT mutations (100,000) of each
container and prints what came of them, and which took longest; ``tests/test_foreign_files.py``
tries a few with every run.  The files are of a few thousand bytes, and the process may take no more
than `SPARE` beyond what it has once all is imported: what ends for want of memory is a fault.
"""

from __future__ import annotations

import collections
import io
import random
import resource
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import reftranscoder as rt
from reftranscoder.errors import Error, FileError
from reftranscoder.files.plain_yaml import parse

CASES = Path(__file__).parent / "golden" / "formats"
SLOW = 0.5  # seconds
SPARE = 64 << 20  # bytes: the allocator takes them by the dozen
#: Fragments of pickles and headers that mean something where they land.
WORDS = [
    b"cos\nsystem\n",
    b"\x93",
    b"R",
    b"b",
    b"\x81",
    b"(i__main__\nx\n",
    b"\x8a\xff",
    b"\x8b\x7f\xff\xff\xff",
    b"\x8d" + b"\xff" * 8,
    b"r\xff\xff\xff\xff",
    b"\x82\x01",
    b"Q",
    b"0" * 20,
    b"2" * 200,
    b"(" * 200,
    b"\x85" * 200,
    b'"shape":[99999999999999]',
    b"\xff" * 8,
    b"\x00" * 8,
]


def mutated(rng: random.Random, content: bytes) -> bytes:
    """``content`` with one to four pieces of damage."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(changed) + 1)
        kind = rng.randrange(6)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and place < len(changed):
            changed[place] = rng.randrange(256)
        elif kind == 2:
            del changed[place : place + rng.choice((1, 2, 8, 100))]
        elif kind == 3:
            changed[place:place] = rng.choice(WORDS)
        elif kind == 4:
            changed[place : place + 8] = rng.choice(WORDS)
        else:
            start = rng.randrange(len(changed) + 1)
            changed[place:place] = changed[start : start + rng.choice((1, 4, 40))]
    return bytes(changed)


def rezipped(rng: random.Random, content: bytes) -> bytes:
    """An archive whose pickle alone is damaged, and whose checksums agree."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            inside = old.read(name)
            new.writestr(name, mutated(rng, inside) if name.endswith("data.pkl") else inside)
    return made.getvalue()


def headers_of_arrays(rng: random.Random, content: bytes) -> bytes:
    """An archive of which the header of one array is damaged, and whose checksums agree."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        chosen = rng.choice(old.namelist())
        for name in old.namelist():
            inside = old.read(name)
            head = mutated(rng, inside[:128]) if name == chosen else inside[:128]
            new.writestr(name, head + inside[128:])
    return made.getvalue()


def header_only(rng: random.Random, content: bytes) -> bytes:
    """A safetensors file whose header alone is damaged, and whose length agrees."""
    length = int.from_bytes(content[:8], "little")
    header = mutated(rng, content[8 : 8 + length])
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


_CONFIGURATION = "final_sparse_autoencoder_gpt2-small_blocks.7.ln2.hook_normalized_16.pt"
#: Name of the kind of damage -> case, file in it, and what does the damage.
DAMAGE: dict[str, tuple[str, str, Callable[[random.Random, bytes], bytes]]] = {
    "torch": ("dictionary_learning-TopK", "ae.pt", mutated),
    "torch, its pickle": ("dictionary_learning-TopK", "ae.pt", rezipped),
    "torch, a pickled configuration": ("transcoder_circuits-transcoder", _CONFIGURATION, rezipped),
    "torch, texts beside tensors": ("openai-TopK", "7.pt", rezipped),
    "hyperparams.json": ("llama_scope-transcoder", "hyperparams.json", mutated),
    "safetensors": ("sae_lens-jumprelu", "sae_weights.safetensors", mutated),
    "safetensors, its header": ("sae_lens-jumprelu", "sae_weights.safetensors", header_only),
    "npz": ("gemma_scope", "params.npz", mutated),
    "npz, its headers": ("gemma_scope", "params.npz", headers_of_arrays),
    "saelens' cfg.json": ("sae_lens-topk-rescaled", "cfg.json", mutated),
    "cfg.json": ("sparsify-skip", "cfg.json", mutated),
    "a layer": ("clt_training_clt-untied", "layers.9.mlp/sae.safetensors", header_only),
    "a layer's cfg.json": ("clt_training_clt-untied", "layers.9.mlp/cfg.json", mutated),
    "an encoder": ("circuit_tracer_clt-jumprelu", "W_enc_1.safetensors", header_only),
    "many decoders": (
        "crosslayer_coding_clt-per_source",
        "clt_checkpoint_latest.safetensors",
        header_only,
    ),
    "their cfg.json": ("crosslayer_coding_clt-per_source", "cfg.json", mutated),
}


def outcomes(kind: str, count: int, seed: int, folder: Path) -> Iterator[tuple[str, float]]:
    """What became of each of ``count`` damaged files of ``kind``, and in how many seconds.

    Raises:
        AssertionError: anything but a transcoder or one line.
    """
    case, name, damage = DAMAGE[kind]
    place = folder / kind.replace(" ", "")
    shutil.copytree(CASES / case, place)
    content, rng = (place / name).read_bytes(), random.Random(seed)
    for number in range(count):
        (place / name).write_bytes(damage(rng, content))
        start = time.process_time()
        try:
            rt.load(place)
            outcome = "loaded"
        except FileError as error:
            assert "\n" not in str(error)
            assert "memory" not in str(error), f"{kind} {number} of seed {seed}: {error}"
            outcome = "refused"
        except Exception as error:
            kept = Path(tempfile.gettempdir()) / f"fuzz-{number}-{name}"
            shutil.copy(place / name, kept)
            raise AssertionError(f"{kind} {number} of seed {seed}, in {kept}: {error!r}") from error
        yield outcome, time.process_time() - start


def yaml_outcomes(count: int, seed: int) -> None:
    """Damage to settings in YAML: a table or a ValueError.  Raises whatever else comes."""
    text = (CASES / "circuit_tracer" / "config.yaml").read_bytes()
    rng = random.Random(seed)
    for _ in range(count):
        try:
            parse(mutated(rng, text).decode("latin-1"))
        except ValueError:
            continue


def limit_memory() -> None:
    """No more address space than there is, and `SPARE`."""
    for case, *_ in DAMAGE.values():  # imports what loading needs
        rt.load(CASES / case)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + SPARE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def try_kind(kind: str, count: int, seed: int, folder: Path) -> str:
    """What came of ``count`` damaged files of ``kind``, in a line."""
    seen: collections.Counter[str] = collections.Counter()
    slowest, which, slow = 0.0, 0, 0
    for number, (outcome, seconds) in enumerate(outcomes(kind, count, seed, folder)):
        seen[outcome] += 1
        slow += seconds > SLOW
        if seconds > slowest:
            slowest, which = seconds, number
    return f"{kind}: {dict(seen)}, slowest {slowest:.3f} s ({which}), {slow} above {SLOW} s"


def main() -> None:
    """What the command line asks for."""
    count, seed = [*map(int, sys.argv[1:3]), *(100_000, 0)[len(sys.argv) - 1 :]]
    limit_memory()
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        for kind in sys.argv[3:] or DAMAGE:
            print(try_kind(kind, count, seed, Path(folder)), flush=True)
    yaml_outcomes(count, seed)
    print(f"config.yaml: {count}")


if __name__ == "__main__":
    try:
        main()
    except Error as error:
        sys.exit(str(error))
