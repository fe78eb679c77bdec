"""``reftranscoder report``: the page needs nothing else, shows what was measured, says what it
lacks, and trusts no text.
"""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from parsed_html import Parsed, assert_needs_nothing_else

import reftranscoder as rt
from reftranscoder import cli
from reftranscoder.auditor.faults import page as faults_page
from reftranscoder.auditor.reporting.html_style import CSS
from reftranscoder.cli import report_page, status
from reftranscoder.cli.report_page import charts, page, style
from reftranscoder.cli.report_page.training import duration
from reftranscoder.evaluating import describe
from reftranscoder.metrics import density_histogram
from reftranscoder.training.record import read_record

ROWS, LENGTH, I, D, O = 96, 8, 6, 24, 5
REFERENCE = {"backend": "reference"}
HOSTILE = "<script>alert('&\"')</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """x.npy, y.npy, tokens.npy; model.npz, and run.jsonl and run.npz of the run that made it."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(2)
    x = rng.standard_normal((ROWS, I)).astype(np.float32)
    y = np.tanh(x[:, :O]).astype(np.float32)
    tokens = np.array([f" w{r}" for r in range(ROWS)], "U40").reshape(-1, LENGTH)
    tokens[:, ::2] = HOSTILE
    for name, array in (("x", x), ("y", y), ("tokens", tokens)):
        np.save(folder / f"{name}.npy", array)
    options = {"dict_size": D, "top_k": 3, "steps": 9, "batch_size": 16, "log_every": 3}
    record = {"log": folder / "run.jsonl", "checkpoint": folder / "run.npz"}
    found = rt.fit(folder / "x.npy", folder / "y.npy", **options, **record, **REFERENCE)
    found.transcoder.save(folder / "model.npz")
    return folder


@pytest.fixture(scope="module")
def found(folder):
    tc, x, y = rt.load(folder / "model.npz"), *rt.paired(folder / "x.npy", folder / "y.npy")
    return describe(tc, x, y, tokens=np.load(folder / "tokens.npy"), strongest=6, **REFERENCE)


@pytest.fixture(scope="module")
def record(folder):
    return read_record(folder / "run.jsonl")


@pytest.fixture
def report(capsys):
    """Run the command in this process; returns its status, standard output and error."""

    def report(*argv):
        capsys.readouterr()
        code = cli.main(["report", *map(str, argv), "--backend", "reference"])
        return code, *capsys.readouterr()

    return report


# The page


def test_the_page_needs_nothing_else(found, record):
    parsed = Parsed(page("model.npz", found, record))
    assert_needs_nothing_else(parsed)
    assert parsed.named("meta")[0] == {"charset": "utf-8"}
    ids = [attrs["id"] for _, attrs in parsed.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    pictures = parsed.named("svg")
    assert len(pictures) == 6 + 2 + 2 + 2 + len(found.features)
    for picture in pictures:
        assert picture["role"] == "img" and set(picture["aria-labelledby"].split()) <= set(ids)
    assert len(parsed.named("title")) == 1 + len(pictures)
    assert len(parsed.named("desc")) == len(pictures)


def test_headings_go_down_by_one(found, record):
    parsed = Parsed(page("model.npz", found, record))
    levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:]))


def test_no_text_is_trusted(found, record):
    hostile = record._replace(
        identity=record.identity | {HOSTILE: HOSTILE, "validation": HOSTILE},
        data={HOSTILE: {"name": HOSTILE, "shape": [1, 2]}},
        began=HOSTILE,
    )
    text = page(HOSTILE, found, hostile)
    assert HOSTILE not in text and "<script" not in text
    shown = Parsed(text).text
    tokens = sum(
        firing.context.tokens.count(HOSTILE) for f in found.features for firing in f.strongest
    )
    assert tokens > 20 and shown.count(HOSTILE) > 8 + 20  # the record and the name; tokens
    control = page("\x1b[31m\x00", found, record)
    assert "\x1b" not in control and "\x00" not in control


def test_the_numbers_are_those_that_were_measured(folder, found, record):
    shown = Parsed(page("model.npz", found, record)).text
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy").astype(np.float64)
    tc = rt.load(folder / "model.npz")
    hidden = tc.encode(x, **REFERENCE).toarray()
    y_hat = tc.decode(hidden, x, **REFERENCE).astype(np.float64)
    squares = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    by_column = ((y - y_hat) ** 2).sum(axis=0) / squares
    fvu = ((y - y_hat) ** 2).sum() / squares.sum()
    assert f"FVU{fvu:.4f}" in shown
    worst = int(by_column.argmax())
    assert f"The least explained columns: {worst} ({by_column[worst]:.3g})" in shown
    active = hidden > 0
    dead = np.flatnonzero(~active.any(axis=0))
    assert f"dead features{len(dead)} (" in shown
    if len(dead):
        assert ", ".join(map(str, dead)) in shown
    assert f"L0{active.sum() / ROWS:.3g}" in shown and f"{ROWS} rows" in shown
    norms = np.linalg.norm(tc.params.W_dec.astype(np.float64), axis=1)
    for feature in found.features:
        j = feature.firings.feature
        assert f"fires in {active[:, j].sum()} rows" in shown
        assert f"norm of its decoder row {norms[j]:.3g}" in shown
        top = hidden[:, j].max()
        assert f"most{top:.3g}" in shown.replace("\n", "")
    for entry in record.entries:
        assert f"{entry.step}{charts.short(entry.fvu)}{charts.short(entry.loss)}" in shown


def test_a_firing_is_framed_and_no_text_is_shown_twice(found, record):
    text = page("model.npz", found, record)
    for part in text.split('<div class="feature"')[1:]:
        rows = re.findall(r'<td class="text" title="([^"]*)">(.*?)</td>', part, re.S)
        assert rows
        assert all(content.count(' at"') == 1 for _, content in rows)
        places = [int(where.split("row ")[1]) for where, _ in rows]
        assert len(places) == len(set(places))


@pytest.mark.parametrize(
    ("has", "lacks"),
    [
        ("", ["--log FILE", "give activations, X and Y"]),
        ("x", ["--log FILE", "rows to be predicted, Y", "--tokens FILE"]),
        ("x y tokens run", []),
        ("run", ["a run is not one"]),
    ],
)
def test_what_was_not_given_is_said(folder, found, record, has, lacks):
    tc = rt.load(folder / "model.npz")
    given = {name: np.load(folder / f"{name}.npy") for name in has.split() if name != "run"}
    if "y" in given:
        given["target"] = given.pop("y")
    described = None if has == "run" else describe(tc, **given, **REFERENCE)
    run = record if "run" in has.split() else None
    shown = Parsed(page(None if has == "run" else "m", described, run)).text
    said = list(report_page.not_shown(described, run))
    assert len(said) == len(lacks)
    assert all(any(words in text for text in said) for words in lacks)
    assert all(text in shown for text in said) and ("Not shown" in shown) == bool(lacks)


def test_a_run_under_way(folder, tmp_path, record):
    lines = (folder / "run.jsonl").read_text().splitlines(keepends=True)
    path = tmp_path / "run.jsonl"
    for count, said in ((1, "Nothing was measured yet"), (3, "it has not ended")):
        path.write_text("".join(lines[:count]) + '{"step": 9, "l')
        shown = Parsed(page(None, None, read_record(path))).text
        assert said in shown and ("of 9" in shown)
    entries = [entry.__class__(**vars(entry) | {"fvu": math.nan}) for entry in record.entries]
    parsed = Parsed(page(None, None, record._replace(entries=tuple(entries))))
    assert "no number is finite" in parsed.text


@pytest.mark.parametrize("activation", ["relu", "batchtopk", "groupmax"])
def test_pages_of_other_activations(folder, activation):
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    tc = rt.build(input_size=I, output_size=O, dict_size=D, top_k=3, activation=activation)
    described = describe(tc, x, y, tokens=np.load(folder / "tokens.npy"), **REFERENCE)
    parsed = Parsed(page(activation, described, None))
    counts = np.bincount((tc.encode(x, **REFERENCE).toarray() > 0).sum(axis=1))
    if np.count_nonzero(counts) > 1:
        low, high = np.flatnonzero(counts)[[0, -1]]
        assert f"from {low} to {high} features are active" in parsed.text


def test_a_transcoder_that_does_nothing(folder):
    arrays = {"W_enc": np.zeros((1, I)), "b_enc": np.zeros(1), "W_dec": np.zeros((1, O))}
    tc = rt.Transcoder.from_arrays(**arrays, b_dec=np.zeros(O), top_k=1)
    x = np.load(folder / "x.npy")
    described = describe(tc, x, np.zeros((ROWS, O)), **REFERENCE)
    shown = Parsed(page("nothing", described, None)).text
    assert "5 columns do not vary" in shown and "Nearest neighbours: there is one feature" in shown


# The charts


def bars(text):
    return [
        {n: float(v) for n, v in attrs.items() if n != "class"}
        for attrs in Parsed(f"<html>{text}</html>").named("rect", "bar")
    ]


def test_heights_are_counts():
    counts, edges = np.array([4, 0, 8, 1]), np.array([0.0, 1, 2, 3, 4])
    text = charts.histogram("A", counts, edges, charts.axis(0, 4, "x", start=True), "things")
    heights = [bar["height"] for bar in bars(text)]
    lefts = [bar["x"] for bar in bars(text)]
    # Written to a tenth, so that each is off by 0.05.
    assert len(heights) == 3
    assert abs(heights[1] - 2 * heights[0]) <= 0.15 and abs(heights[1] - 8 * heights[2]) <= 0.45
    assert abs((lefts[1] - lefts[0]) - 2 * (lefts[2] - lefts[1])) <= 0.2
    assert "13 things by x, from 0 to 4; most, 8, from 2 to 3" in text
    assert "no things" in charts.histogram("A", counts * 0, edges, charts.axis(0, 4, "x"), "things")


def test_a_curve_goes_through_its_points_and_breaks_where_there_is_none():
    axes = charts.axis(0, 4, "step", start=True), charts.axis(0, 2, "FVU", start=True)
    text = charts.curve("A", [0, 1, 2, 4], [0.0, 2.0, math.nan, 1.0], *axes)
    lines = [attrs["points"] for attrs in Parsed(f"<html>{text}</html>").named("polyline")]
    points = [tuple(map(float, p.split(","))) for line in lines for p in line.split()]
    assert len(lines) == 2 and len(points) == 3
    (x0, y0), (x1, y1), (x2, y2) = points
    assert abs((x2 - x0) - 4 * (x1 - x0)) <= 0.3 and abs((y0 - y1) - 2 * (y0 - y2)) <= 0.2
    assert "from 0 to 1, at least 0, at most 2" in text


def test_many_columns_become_ranges():
    values = np.arange(1000.0)
    values[10] = np.nan
    text = charts.by_column("A", values, charts.axis(0, 1000, "FVU", start=True), "column")
    drawn = bars(text)
    assert len(drawn) == 143 and "a bar is the range of 7 neighbouring columns" in text
    assert [bar["y"] for bar in drawn] == sorted((bar["y"] for bar in drawn), reverse=True)
    assert "from 0 over" in text and "to 999" in text
    few = charts.by_column("A", np.array([1.0, 2]), charts.axis(0, 2, "FVU", start=True), "column")
    assert abs(2 * bars(few)[0]["height"] - bars(few)[1]["height"]) <= 0.15


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0), (3, 3), (-2, 5), (0, 1e-9), (0, 7.3e9)])
def test_ticks_are_round_and_hold_the_data(low, high):
    of = charts.axis(low, high, "x")
    assert of.low <= low and of.high >= high and of.low < of.high
    assert 2 <= len(of.ticks) <= 8 and of.ticks[0] == of.low and of.ticks[-1] == of.high
    steps = np.diff(of.ticks)
    assert np.allclose(steps, steps[0], rtol=1e-9) and len(set(map(of.words, of.ticks))) > 1


def test_the_chart_of_firing_rates_counts_every_feature_that_fires(found, record):
    rates = found.metrics.firing_rates
    counts, _ = density_histogram(rates)
    text = page("m", found, record)
    assert f"{np.count_nonzero(rates)} features by share of the rows" in text
    chart = text[text.index("<figcaption>How often") :].split("</figure>")[0]
    assert len(bars(chart)) == np.count_nonzero(counts)


def test_short_numbers():
    said = [charts.short(v) for v in (0, 0.5, 12345.6, 1e-5, 2.5e-4, 1e9, math.inf, 0.12345)]
    assert said == ["0", "0.5", "12,346", "1e-5", "2.5e-4", "1e9", "inf", "0.123"]
    assert [duration(s) for s in (1.23, 59.96, 61, 3 * 3600 + 125)] == [
        "1.2 s",
        "1 min 0 s",
        "1 min 1 s",
        "3 h 2 min",
    ]


# The look


def palettes():
    """The colours by day and by night."""
    found = []
    for block in re.findall(r":root \{(.*?)\}", CSS, re.S)[:2]:
        found.append(dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block)))
    return {"day": found[0], "night": found[0] | found[1]}


def rgb(colour):
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def contrast(a, b):
    """Of two colours, by WCAG 2.2, the definition of contrast ratio."""

    def luminance(c):
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("time", ["day", "night"])
def test_every_text_stands_out(time):
    assert contrast(rgb("#000000"), rgb("#ffffff")) == 21
    colours = {name: rgb(value) for name, value in palettes()[time].items()}
    for text in ("ink", "faint", "good", "fault", "care", "named", "none"):
        for ground in ("paper", "card"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for share in (0.25, 0.5, 0.75, 1):  # the shades of a token
        ground = share * colours["mark"] + (1 - share) * colours["card"]
        assert contrast(colours["ink"], ground) >= 4.5, share


def test_one_place_has_the_colours():
    for css in (style.CSS, vars(faults_page)["_CSS"]):
        assert not re.search(r"#[0-9a-fA-F]{3,8}\b|rgb\(|hsl\(", css)


def test_every_table_scrolls_in_its_own_box(found, record):
    text = page("model.npz", found, record)
    assert text.count("<table") == len(re.findall(r'<div class="wide"><table', text)) > 0


# The command


def test_what_is_printed_has_the_colours_of_day():
    """Whatever the screen has: those of the night are on light ink, and paper is white."""
    rules = re.findall(r"@media ([^{]*)\{", CSS + style.CSS)
    dark = [rule for rule in rules if "dark" in rule]
    assert dark and all(rule.startswith("screen and ") for rule in dark)
    assert [rule.strip() for rule in rules].count("print") == 2


def test_the_command_writes_the_page_and_says_what_is_in_it(report, folder, tmp_path):
    out = tmp_path / "report.html"
    data = [folder / name for name in ("model.npz", "x.npy", "y.npy")]
    argv = (*data, "--log", folder / "run.jsonl", "--tokens", folder / "tokens.npy")
    code, said, err = report(*argv, "--html", out, "--feature", 3, "--feature", 5, "--feature", 3)
    assert (code, err) == (0, "") and f"the page is {out}" in said and "not shown" not in said
    assert "2 features by where they fire: 3, 5" in said
    text = out.read_text()
    parsed = Parsed(text)
    assert "feature-3" in text and "feature-5" in text and f"{folder / 'x.npy'}" in parsed.text
    assert report(*argv, "--html", out)[0] == 0  # another page is replaced
    code, said, err = report(folder / "model.npz")
    assert code == 0 and "the page: --html FILE" in said and said.count("not shown: ") == 2


def test_json_has_what_the_library_finds(report, folder):
    tc = rt.load(folder / "model.npz")
    want = describe(tc, folder / "x.npy", folder / "y.npy", **REFERENCE).to_dict()
    code, said, _ = report(*(folder / n for n in ("model.npz", "x.npy", "y.npy")), "--json")
    got = json.loads(said)["description"]
    assert code == 0 and got.pop("seconds") > 0 and want.pop("seconds") > 0
    assert got == want
    for name in ("run.jsonl", "run.npz"):
        found = json.loads(report(folder / name, "--json")[1])
        assert [entry["step"] for entry in found["run"]["entries"]] == [3, 6, 9]
        assert found["description"] is None


def test_rows_and_positions_of_the_file(report, folder):
    argv = [folder / n for n in ("model.npz", "x.npy", "y.npy")]
    options = ("--rows", "8:96", "--sequence-length", LENGTH, "--drop-position", 0, "--json")
    tokens = ("--tokens", folder / "tokens.npy")
    found = json.loads(report(*argv, *options, *tokens)[1])["description"]
    assert found["rows"] == 77
    (folder / "list.json").write_text(json.dumps(np.load(folder / "tokens.npy").ravel().tolist()))
    flat = ("--tokens", folder / "list.json", "--sequence-length", LENGTH)
    whole = [json.loads(report(*argv, *of, "--json")[1])["description"] for of in (tokens, flat)]
    assert whole[0]["features"] == whole[1]["features"] and whole[0]["rows"] == ROWS
    for feature in found["features"]:
        for firing in feature["strongest"]:
            assert firing["row"] >= 8 and firing["row"] % LENGTH > 0
            if firing["row"] % 2:
                assert firing["tokens"][firing["at"]] == f" w{firing['row']}"


BAD = {
    "no model": (["missing.npz"], "no such file"),
    "a run and data": (["run.npz", "x.npy", "y.npy"], "--log"),
    "tokens without data": (["model.npz", "--tokens", "tokens.npy"], "X must be given"),
    "a feature without data": (["model.npz", "--feature", "3"], "X must be given"),
    "too large a feature": (["model.npz", "x.npy", "--feature", "24"], "0 to 23; got 24"),
    "no log": (["model.npz", "--log", "x.npy"], "not a log of reftranscoder"),
    "a model for a log": (["model.npz", "--log", "model.npz"], "not a checkpoint"),
    "no tokens": (["model.npz", "x.npy", "--tokens", "x.npy"], "holds no tokens"),
    "tokens of fewer rows": (["model.npz", "x.npy", "--tokens", "few.json"], "none for row 95"),
    "another length": (
        ["model.npz", "x.npy", "--tokens", "tokens.npy", "--sequence-length", "4",
         "--drop-position", "0"],
        "8, as in tokens",
    ),
    "half a choice": (["model.npz", "x.npy", "--sequence-length", "8"], "drop_position"),
    "y for x": (["model.npz", "y.npy"], "(B, I) = (any, 6)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_reported(report, folder, monkeypatch, name):
    monkeypatch.chdir(folder)
    (folder / "few.json").write_text('["a", "b"]')
    before = sorted(folder.iterdir())
    argv, said = BAD[name]
    code, out, err = report(*argv)
    assert code == status.UNUSABLE and out == "" and err.count("\n") == 1
    assert err.startswith("reftranscoder report: ") and said in err and len(err) < 330
    assert sorted(folder.iterdir()) == before
