"""Files of runs: figures of earlier versions are read under their present names."""

from __future__ import annotations

import csv
import json

from tasks.report import run_files
from tests.support.paths import ROOT

OLD_RUN = ROOT / "tests" / "files" / "old_runs" / "gan"


def test_figures_of_earlier_versions_have_their_present_names(tmp_path):
    state = OLD_RUN / "interrupted" / "checkpoint" / "state.json"
    (former,) = json.loads(state.read_text())["history"]
    (row,) = run_files.read_state(state)["history"]
    assert row["critic_accuracy"] == former["told_apart"]
    assert row.keys() - former.keys() == {"critic_accuracy"}

    report = OLD_RUN / "finished" / "report.json"
    former = json.loads(report.read_text())["figures"]
    figures = run_files.read_report(report)["figures"]
    assert figures["generated_images"] == former["painted_images"]
    assert figures.keys() - former.keys() == {"generated_images"}

    with open(tmp_path / run_files.HISTORY, "w", newline="") as file:
        csv.writer(file).writerows([["epoch", "told_apart"], ["1", "0.5"]])
    assert run_files.read_history(tmp_path) == [{"epoch": "1", "critic_accuracy": "0.5"}]
