"""Some of what ``tests/fuzz.py`` tries: a few hundred files of each kind, the same in every run."""

from __future__ import annotations

import fuzz
import pytest

KINDS = {kind.name: kind for kind in fuzz.kinds()}


@pytest.mark.parametrize("name", KINDS)
def test_a_changed_file_is_read_or_refused_in_one_line(name, tmp_path, capsys):
    counts = fuzz.run(KINDS[name], seed=1, count=300, seconds=120, folder=tmp_path)
    assert counts["faults"] == 0, capsys.readouterr().err
    assert counts["tried"] == 300
    assert counts["accepted"] > 0 and counts["refused"] > 0


def test_what_is_wrong_with_a_reader_is_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("reftranscoder.training.checkpoint.digest_of", lambda meta, arrays: "same")
    kind = next(kind for kind in fuzz.kinds() if kind.name == "checkpoint.npz")
    counts = fuzz.run(kind, seed=1, count=300, seconds=120, folder=tmp_path)
    assert counts["faults"] > 0
    assert "accepted that is not what was written" in capsys.readouterr().err
