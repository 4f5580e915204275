"""The command `zoo study all`: results on standard output, progress on standard error."""

from __future__ import annotations

import json

import pytest

from scripts.__main__ import main
from tasks.study import course, running


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_the_progress_of_all_studies_is_printed_to_standard_error(flags, monkeypatch, capsys):
    row = {"claims": [], "seconds": 0.5, "cpu_seconds": 0.25, "page": "x.html"}
    monkeypatch.setattr(
        running, "run_study", lambda study, folder, **options: {"study": study.name, **row}
    )
    assert main(["study", "all", *flags]) == 0
    printed, names = capsys.readouterr(), [study.name for study in course()]
    assert printed.err.splitlines() == [
        f"{number} of {len(names)}: {name}" for number, name in enumerate(names, start=1)
    ]
    if flags:
        assert json.loads(printed.out) == [{"study": name, **row} for name in names]


@pytest.mark.parametrize("words", [[], ["softmax"]])
def test_lines_are_of_at_most_80_columns(words, monkeypatch, capsys):
    claim = {"holds": True, "text": "A long claim. " * 9, "measured": "a measurement " * 9}
    row = {"study": "x", "claims": [claim], "seconds": 0.5, "cpu_seconds": 0.25, "page": "x.html"}
    monkeypatch.setattr(running, "run_study", lambda study, folder, **options: row)
    assert main(["study", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(line.strip() for line in lines)
    if words:
        assert f"{claim['text']}({claim['measured']})" in text
    else:
        assert all(study.question in text for study in course())
