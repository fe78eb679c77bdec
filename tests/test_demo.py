"""The demo, made small: what it says, writes and checks."""

from __future__ import annotations

import contextlib
import io
import json
import re
import struct
import sys
from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

import reftranscoder as rt
from reftranscoder import cli, reference
from reftranscoder.cli import demo, exact_case, reading, status

STEPS = 6
SMALL = {"DICT_SIZE": 256, "TOP_K": 16, "BATCH_SIZE": 512, "HELD_OUT": 2}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, value in SMALL.items():
        monkeypatch.setattr(demo, name, value)


@pytest.fixture
def no_picture(monkeypatch):
    """Drawing one takes longer than all the rest."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def run(out, *options):
    return cli.main(["demo", "--out", str(out), "--steps", str(STEPS), *options])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with all there is: its folder, status and output."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(demo, name, value)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            code = run(folder)
    return folder, code, out.getvalue()


def test_it_tells_the_story(whole):
    folder, code, out = whole
    assert code == 0
    assert [line for line in out.splitlines() if re.match(r"\d  ", line)] == [
        "1  Are the gradients right?",
        "2  Training on real activations",
        "3  Do the kernels do what the formulas say?",
        "4  What are the features about?",
    ]
    assert "7 of 7 equal" in out
    assert "8,192 tokens of the Jargon File" in " ".join(out.split())
    assert f"{STEPS} steps of 512 rows" in out
    # On real data even six steps find more than the mean, and less than everything.
    fvu, l0 = map(float, re.search(r"FVU ([\d.]+) .*L0 ([\d.]+)", out).groups())
    assert 0.3 < fvu < 1
    assert 0 < l0 <= 16
    assert re.search(r"dead: \d+ of 256 features", out)
    # Rounding could swap two features that are nearly equal, in a row or two.
    same = re.search(r"On the 254 rows held out, .* same\s+features in (\d+)\.", out, re.S)
    assert 250 <= int(same[1]) <= 254
    assert "2 checks passed" in out
    assert max(map(len, out.replace(str(folder), "").splitlines())) <= 80


def test_every_stage_is_compared_with_its_bound(whole):
    _, _, out = whole
    stages = " ".join(demo.STAGES.values()).split()
    ratios = dict(re.findall(r"(\w+) (\d\.\d{3})(?:\s|$)", out))
    assert set(stages) <= set(ratios)
    assert all(float(ratios[name]) <= 1 for name in stages)
    # A bound that nothing comes near would prove little.
    assert max(float(ratios[name]) for name in stages) > 0.5


def test_three_features_are_shown_in_context(whole):
    _, _, out = whole
    features = re.findall(r"feature (\d+), on [\d.]+% of the tokens: (.+)", out)
    assert len(features) == 3
    assert all(len(words.split(", ")) >= 3 for _, words in features)
    firings = re.findall(r"^ +([\d.]+) .*»(.+)«.*$", out, re.M)
    assert len(firings) == 15
    text = "".join(rt.sample.load().tokens.ravel())
    assert all(token in text for _, token in firings)


def test_it_writes_a_transcoder_and_a_picture(whole):
    folder, _, _ = whole
    assert sorted(path.name for path in folder.iterdir()) == ["model.npz", "picture.png"]
    assert rt.load(folder / "model.npz").config.dict_size == 256
    picture = (folder / "picture.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", picture[16:24])
    assert width > 1500 and height > 900
    assert len(picture) > 100_000  # a page full, not an empty one


def test_json(tmp_path, capsys):
    assert run(tmp_path, "--json") == 0
    got = json.loads(capsys.readouterr().out)
    assert all(slope["equal"] for slope in got["gradients"])
    assert got["training"]["held_out"]["rows"] == 2 * 127
    assert got["training"]["held_out"]["fvu"] < 1
    assert set(got["kernels"]["stages"]) == set(" ".join(demo.STAGES.values()).split())
    assert all(stage["ratio"] <= 1 for stage in got["kernels"]["stages"].values())
    assert len(got["features"]) == 3
    assert got["checks"] and all(got["checks"].values())
    assert got["picture"] == str(tmp_path / "picture.png")


def test_another_run_is_replaced_only_by_force(whole, capsys):
    folder, _, _ = whole
    before = (folder / "model.npz").read_bytes()
    assert run(folder) == status.UNUSABLE
    out, err = capsys.readouterr()
    assert out == "" and "--force" in err
    assert (folder / "model.npz").read_bytes() == before


def test_a_folder_that_is_a_file(tmp_path, capsys):
    (tmp_path / "demo").write_text("a file")
    assert run(tmp_path / "demo") == status.UNUSABLE
    assert "is not a folder" in capsys.readouterr().err


def test_without_matplotlib(tmp_path, capsys, no_picture):
    assert run(tmp_path) == 0
    assert "no picture: that needs matplotlib" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]


def test_a_wrong_gradient_fails(tmp_path, capsys, monkeypatch, no_picture):
    backward = reference.transcoder_backward

    def wrong(*arguments, **options):
        made = backward(*arguments, **options)
        return made._replace(db_dec=-made.db_dec)

    monkeypatch.setattr(reference, "transcoder_backward", wrong)
    assert run(tmp_path) == status.FAILED
    out = capsys.readouterr().out
    assert "5 of 7 equal" in out  # neither b_dec nor all parameters
    assert "FAILED: every gradient" in out and "FAILED: every stage" in out


def test_a_worse_reconstruction_fails(tmp_path, capsys, monkeypatch, no_picture):
    monkeypatch.setattr(demo, "STEPS", STEPS)
    monkeypatch.setattr(demo, "WORST_FVU", 0.01)
    assert run(tmp_path) == status.FAILED
    assert "FAILED: held-out FVU is at most 0.01" in capsys.readouterr().out


def test_ctrl_c(tmp_path, capsys, monkeypatch):
    def impatient(bar):
        def tell(told):
            raise KeyboardInterrupt

        return tell

    monkeypatch.setattr(demo, "teller", impatient)
    assert run(tmp_path) == 130
    assert capsys.readouterr().err == "reftranscoder demo: interrupted\n"


# The exact case.


@pytest.mark.parametrize("seed", range(5))
def test_the_exact_case_is_exact(seed):
    slopes = exact_case.prove(seed)
    assert [slope.moved for slope in slopes] == [*exact_case.ARRAYS, "all parameters"]
    assert all(type(slope.derived) is Fraction and slope.derived != 0 for slope in slopes)
    assert all(slope.equal for slope in slopes)


@pytest.mark.parametrize("name", exact_case.ARRAYS)
def test_the_exact_case_finds_the_smallest_fault(monkeypatch, name):
    backward = reference.transcoder_backward

    def wrong(*arguments, **options):
        made = backward(*arguments, **options)
        gradient = getattr(made, f"d{name}").copy()
        gradient.flat[0] += Fraction(1, 10**30)
        return made._replace(**{f"d{name}": gradient})

    right = exact_case.prove(0)
    monkeypatch.setattr(reference, "transcoder_backward", wrong)
    slopes = exact_case.prove(0)
    moved = {name} | ({"all parameters"} if name != "x" else set())
    assert {slope.moved for slope in slopes if not slope.equal} == moved
    assert [slope.difference for slope in slopes] == [slope.difference for slope in right]


def test_a_float_is_not_exact():
    assert exact_case.Slope("x", Fraction(1, 2), Fraction(1, 2)).equal
    assert not exact_case.Slope("x", Fraction(1, 2), 0.5).equal


# The choice of features.

PASSAGES, LENGTH = 12, 20


@pytest.fixture
def tokens():
    tokens = np.full((PASSAGES, LENGTH), " filler")
    tokens[:, 5] = [" red", " green", " blue", " Red"] * 3
    tokens[:, 9] = ","
    return tokens


def firing(strengths):
    """A column of ``hidden`` from {(passage, position): strength}."""
    column = np.zeros((PASSAGES, LENGTH))
    for place, strength in strengths.items():
        column[place] = strength
    return column.ravel()


def chosen(tokens, *columns, count=3):
    hidden = sparse.csr_array(np.stack([firing(column) for column in columns], axis=1))
    return reading.choose(hidden, tokens, count)


COLOURS = {(p, 5): 10 - p / 2 for p in range(PASSAGES)}


def test_a_feature_of_several_words_is_chosen(tokens):
    (feature,) = chosen(tokens, COLOURS | {(0, 0): 99})
    assert feature.index == 0
    assert feature.rate == PASSAGES / tokens.size  # without the first token of a passage
    assert feature.firings[0] == (0, 5, 10.0)
    assert [f.value for f in feature.firings] == sorted(COLOURS.values(), reverse=True)
    energy = np.square(sorted(COLOURS.values(), reverse=True))
    # Sums of at most twelve numbers, in another order.
    assert feature.share == pytest.approx(energy[:10].sum() / energy.sum(), rel=1e-14)
    assert reading.strongest_words(tokens, feature) == ["red", "green", "blue"]


@pytest.mark.parametrize(
    "column",
    [
        {(p, 5): 1 for p in range(9)},  # too rare
        {(p, 9): 1 for p in range(PASSAGES)},  # no words
        {(p, 6): 1 for p in range(PASSAGES)},  # one word
        {(p, q): 1 for p in (0, 1, 2) for q in (5, 6, 7, 8)},  # few passages
        COLOURS | {(0, 5): 100},  # a spike
    ],
)
def test_a_feature_that_says_little_is_not(tokens, column):
    assert chosen(tokens, column) == []


def test_the_most_concentrated_come_first_and_no_word_twice(tokens):
    weak = {(p, 12): 3 for p in range(PASSAGES)}
    tokens[1, 5], tokens[2, 5] = " green", " blue"
    green = COLOURS | {(1, 5): 11}
    columns = COLOURS | weak, COLOURS, green | weak, COLOURS | {(0, 5): 10.5}
    assert [feature.index for feature in chosen(tokens, *columns)] == [3, 2]
    assert [feature.index for feature in chosen(tokens, *columns, count=1)] == [3]


def test_one_firing_a_passage_is_shown(tokens):
    tokens[0, 6] = " yellow"
    (feature,) = chosen(tokens, COLOURS | {(0, 6): 9.9})
    assert [f.passage for f in feature.firings] == list(range(PASSAGES))


def test_context_is_of_five_tokens(tokens):
    tokens[3] = [f" {n}" for n in range(LENGTH)]
    tokens[3, 6] = ".\n"
    middle = reading.Firing(3, 5, 1.0)
    assert reading.context(tokens, middle) == (" 3 4", " 5", ".⏎ 7")
    assert reading.context(tokens, middle._replace(position=0)) == ("", " 0", " 1 2")
    assert reading.context(tokens, middle._replace(position=LENGTH - 1))[2] == ""
