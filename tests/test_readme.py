"""README.rst says nothing that is not so: its code runs and prints what it says, its map is the
package, and it is short.
"""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
from docutils import nodes
from pages import PACKAGE, PAGES, README, ROOT, blocks, document, parsed

import reftranscoder as rt

TEXT = README.read_text(encoding="utf-8")
LONGEST = 1800  # words
FOLDERS = (ROOT / "tests", ROOT / "reftranscoder")
RST = sorted([*ROOT.glob("*.rst"), *(path for folder in FOLDERS for path in folder.rglob("*.rst"))])


@pytest.mark.parametrize("path", RST, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_docutils_reads_it_without_a_warning(path):
    warnings = io.StringIO()
    parsed(path.read_text(encoding="utf-8"), warnings)
    assert warnings.getvalue() == ""


def test_docutils_would_have_warned():
    warnings = io.StringIO()
    parsed("Title\n====\n\nA `link_ to nowhere.\n", warnings)
    assert "Title underline too short" in warnings.getvalue()


def test_it_is_short():
    assert len(TEXT.split()) <= LONGEST


def test_there_are_two_commands_and_the_last_runs_the_tests():
    (block,) = blocks(README, "Two commands")
    demo, tests = block.splitlines()
    assert demo.startswith("python3 -m venv ") and demo.endswith("reftranscoder demo")
    assert tests.startswith("python3 -m venv ") and "env/bin/pytest" in tests
    # .ci/run finds its commands by how they start.
    assert re.findall(r"^ *python3 -m venv", TEXT, re.M) == ["    python3 -m venv"] * 2


@pytest.fixture(scope="module")
def ten_lines(tmp_path_factory):
    """The names that the first ten lines leave behind, and the folder in which they ran."""
    (code,) = blocks(README, "Ten lines")
    folder = tmp_path_factory.mktemp("ten-lines")
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(code, names)
    return code, names, folder


def test_ten_lines(ten_lines):
    code, names, folder = ten_lines
    assert len([line for line in code.splitlines() if line]) <= 10
    x, hidden, y_hat = names["x"], names["hidden"], names["y_hat"]
    tc, grads, formula = names["tc"], names["grads"], names["formula"]
    assert x.shape == names["target"].shape == y_hat.shape == (8192, 576)
    assert hidden.shape == (8192, 1024)
    assert np.diff(hidden.indptr).max() == 16
    assert np.array_equal(y_hat, tc.decode(hidden))
    assert grads.W_enc.shape == tc.params.W_enc.shape
    assert formula.shape == hidden.shape
    assert np.array_equal(rt.load(folder / "transcoder.npz")(x[:8]), y_hat[:8])


class _Tensor:
    """As much of a tensor as a hook asks for."""

    def __init__(self, array):
        self.array = array

    def detach(self):
        return self

    float = cpu = detach

    def flatten(self, first, last):
        assert (first, last) == (0, -2)
        return _Tensor(self.array.reshape(-1, self.array.shape[-1]))

    def numpy(self):
        return self.array


class _Module:
    """As much of a module: its hooks are called with what it reads and writes."""

    def __init__(self):
        self.hooks = []

    def register_forward_hook(self, hook):
        self.hooks.append(hook)
        return SimpleNamespace(remove=lambda: self.hooks.remove(hook))

    def __call__(self, x):
        for hook in self.hooks:
            hook(self, (_Tensor(x),), _Tensor(np.tanh(x)))


def test_a_hook_harvests_activations(tmp_path, monkeypatch, rng):
    (code,) = blocks(README, "Your own activations")
    assert len([line for line in code.splitlines() if line]) <= 12
    mlp = _Module()
    batches = [rng.standard_normal((2, 40, 6)).astype(np.float16) for _ in range(3)]

    def model(tokens):
        return mlp(tokens)

    model.model = SimpleNamespace(layers=[None] * 15 + [SimpleNamespace(mlp=mlp)])
    monkeypatch.chdir(tmp_path)
    names = {"rt": rt, "model": model, "batches": batches}
    exec(code.replace("dict_size=1024, top_k=16, steps=50", "dict_size=8, top_k=2, steps=2"), names)
    x, target = rt.paired("activations")
    assert (x.shape, target.shape) == ((240, 6), (240, 6)) and mlp.hooks == []
    assert np.array_equal(x.rows(range(240)), np.concatenate(batches).reshape(-1, 6))
    assert names["fit"].transcoder.config.dict_size == 8


NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?(?![\w])")


FEATURES = re.compile(r"\(\d[\d, .]*\)")


def numbers(text):
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def test_ten_lines_of_audit_print_what_is_printed_there(ten_lines, capsys):
    code, printed = blocks(README, "Ten lines of audit")
    assert len([line for line in code.splitlines() if line]) <= 10
    exec(code, dict(ten_lines[1]))
    # Which features were not active depends on what another version of NumPy draws and rounds.
    out, printed = (FEATURES.sub("()", text) for text in (capsys.readouterr().out, printed))
    assert [" ".join(line.split()) for line in NUMBER.sub("#", out).splitlines()] == [
        " ".join(line.split()) for line in NUMBER.sub("#", printed).splitlines()
    ]
    # NumPy's matrix product, and with it every error, is another one on another machine; that an
    # error is small, or a fault large, is the same on all.
    got, want = numbers(out), numbers(printed)
    assert len(want) >= 8
    assert all(abs(a - b) <= max(abs(a), abs(b)) / 2 for a, b in zip(got, want, strict=True))


def test_the_map_is_the_package():
    (block,) = blocks(README, "The map")
    listed = re.findall(r"^(\S+)  ", block, re.M)
    there = [path.name + "/" * path.is_dir() for path in PACKAGE.iterdir()]
    assert sorted(listed) == sorted(set(there) - {"__pycache__/"})


def test_every_page_of_the_guide_is_listed():
    links = {link["refuri"] for link in document(README).findall(nodes.reference)}
    pages = {f"reftranscoder/guide/{path.name}" for path in PAGES}
    assert pages and pages <= links


def test_the_newest_change_is_of_this_version():
    changes = document(ROOT / "CHANGELOG.rst")
    titles = [section.next_node(nodes.title).astext() for section in changes.findall(nodes.section)]
    assert titles[0] == rt.__version__
