"""The log that `fit` writes while it runs, and what is read back of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder.errors import FileError, OptionError
from reftranscoder.training.metrics_log import read_log
from reftranscoder.training.record import is_record, read_record

OPTIONS = {"dict_size": 12, "top_k": 2, "steps": 12, "batch_size": 16, "log_every": 2}
OPTIONS |= {"backend": "reference", "validation": 0.2}
PACE = {"rows_per_second", "seconds"}


@pytest.fixture
def data(rng):
    x = rng.standard_normal((80, 6)).astype(np.float32)
    return x, np.tanh(x[:, :4])


def numbers(log):
    """What does not depend on how fast it went."""
    return [{n: v for n, v in line.items() if n not in PACE} for line in log.lines]


def stopping(at):
    def stop(told):
        if told.step == at:
            raise KeyboardInterrupt

    return stop


def test_a_line_for_every_entry(data, tmp_path):
    path = tmp_path / "run.jsonl"
    found = rt.fit(*data, **OPTIONS, log=path)
    head, *lines, end = map(json.loads, path.read_text().splitlines())
    assert [{n: v for n, v in line.items() if n != "seconds"} for line in lines] == [
        {n: getattr(entry, n) for n in vars(entry)} for entry in found.history
    ]
    seconds = [line["seconds"] for line in lines] + [end["seconds"]]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert head["identity"]["dict_size"] == 12 and head["identity"]["steps"] == 12
    assert head["data"]["x"] == {"name": "x", "shape": [64, 6]}
    assert head["data"]["validation target"]["shape"] == [16, 4]
    assert (end["ended"], end["steps"], end["best_step"]) == ("done", 12, None)


def test_it_is_there_while_the_run_is_under_way(data, tmp_path):
    path, seen = tmp_path / "run.jsonl", []
    rt.fit(*data, **OPTIONS, log=path, progress=lambda told: seen.append(len(read_log(path).lines)))
    assert seen == [n // 2 for n in range(1, 13)]
    assert read_log(path).end["ended"] == "done"


@pytest.mark.parametrize("killed", [False, True])
def test_a_run_that_goes_on(data, tmp_path, killed):
    """Also from a log that a kill left with lines beyond the checkpoint, the last cut short."""
    whole, path = tmp_path / "whole.jsonl", tmp_path / "run.jsonl"
    options = OPTIONS | {"checkpoint": tmp_path / "run.npz"}
    rt.fit(*data, **OPTIONS, log=whole)
    rt.fit(*data, **options, log=path, progress=stopping(5))
    first = read_log(path)
    assert (first.end["ended"], first.end["steps"], len(first.lines)) == ("interrupted", 5, 2)
    if killed:
        lines = path.read_text().splitlines()
        made_again = whole.read_text().splitlines()[3:5]
        path.write_text("\n".join([*lines[:-1], *made_again])[:-9])
    rt.fit(*data, **options, log=path)
    second = read_log(path)
    assert numbers(second) == numbers(read_log(whole))
    assert second.lines[:2] == first.lines and second.head["began"] == first.head["began"]
    seconds = [line["seconds"] for line in second.lines]
    assert seconds == sorted(seconds)


def test_a_log_is_replaced_and_nothing_else(data, tmp_path):
    path = tmp_path / "run.jsonl"
    rt.fit(*data, **OPTIONS, log=path)
    other = OPTIONS | {"dict_size": 8}
    rt.fit(*data, **other, log=path)
    assert read_log(path).head["identity"]["dict_size"] == 8 and len(read_log(path).lines) == 6
    for content in (b"my notes\n", b'{"a": 1}\n', b"\xff\n", b"half a line"):
        path.write_bytes(content)
        with pytest.raises(FileError, match="not a log of reftranscoder"):
            rt.fit(*data, **OPTIONS, log=path)
        assert path.read_bytes() == content
    with pytest.raises(OptionError, match="another file than checkpoint"):
        rt.fit(*data, **OPTIONS, log=path, checkpoint=path)
    with pytest.raises(FileError, match="is a folder"):
        rt.fit(*data, **OPTIONS, log=tmp_path)
    path.write_bytes(b"")
    rt.fit(*data, **OPTIONS, log=path)
    assert len(read_log(path).lines) == 6


def test_what_is_not_finite_is_null(data, tmp_path):
    """A constant target: FVU is 0 / 0, or infinite."""
    path = tmp_path / "run.jsonl"
    x, y = data
    found = rt.fit(x, np.ones_like(y), **OPTIONS, log=path)
    assert not np.isfinite(found.history.column("fvu")).any()
    text = path.read_text()
    assert '"fvu": null' in text and "NaN" not in text and "Infinity" not in text
    assert all(np.isnan(line["fvu"]) for line in read_log(path).lines)


def test_damage_is_named_by_its_line(data, tmp_path):
    path = tmp_path / "run.jsonl"
    rt.fit(*data, **OPTIONS, log=path)
    lines = path.read_text().splitlines()
    for n, bad in (
        (3, "{"),
        (3, "[]"),
        (4, '{"step": 1}'),
        (5, lines[4].replace("step", "stop")),
        (8, lines[7].replace("done", "gone")),
        (3, lines[2].replace('": ', '": "x", "', 1)),
        (2, lines[1].replace('"dead": ', '"dead": -')),
        (7, lines[7]),
    ):
        damaged = [*lines]
        damaged[n - 1] = bad
        path.write_text("\n".join(damaged) + "\n")
        with pytest.raises(FileError, match=f"damaged in line {n}") as error:
            read_log(path)
        assert str(error.value).isprintable()


def test_a_record_is_the_same_from_either(data, tmp_path):
    log, checkpoint = tmp_path / "run.jsonl", tmp_path / "run.npz"
    found = rt.fit(*data, **OPTIONS, log=log, checkpoint=checkpoint)
    one, other = read_record(log), read_record(checkpoint)
    assert one.entries == other.entries == found.history.entries
    assert one.identity == other.identity and one.steps == other.steps == 12
    assert one.total_seconds > 0 and other.total_seconds is None
    found.transcoder.save(tmp_path / "model.npz")
    assert [is_record(p) for p in (log, checkpoint, tmp_path / "model.npz", tmp_path)] == [
        True,
        True,
        False,
        False,
    ]
    whole = checkpoint.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for damaged in (whole[:-40], flipped):
        checkpoint.write_bytes(damaged)
        with pytest.raises(FileError):
            read_record(checkpoint)
