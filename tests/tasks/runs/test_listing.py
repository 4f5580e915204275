"""The list of runs: finished, interrupted and damaged ones."""

from __future__ import annotations

import json
import os
import shutil
import socket

import pytest

from scripts.__main__ import main
from tasks.runs import listing
from tests.support.paths import ROOT

OLD_RUNS = ROOT / "tests" / "files" / "old_runs"


@pytest.fixture
def runs(tmp_path):
    """Returns a folder of two finished classifiers, an interrupted one and a segmenter."""
    finished = OLD_RUNS / "classification" / "finished"
    folder = tmp_path / "runs"
    for name, accuracy in (("a", 0.25), ("b", 0.75)):
        shutil.copytree(finished, folder / name)
        report = json.loads((folder / name / "report.json").read_text())
        report["figures"] |= {"accuracy": accuracy, "seconds": 100 * accuracy}
        (folder / name / "report.json").write_text(json.dumps(report))
    shutil.copytree(OLD_RUNS / "classification" / "interrupted", folder / "c")
    shutil.copytree(OLD_RUNS / "segmentation" / "finished", folder / "deeper" / "d")
    return folder


def names(found):
    return [run.path.name for run in found]


def test_runs_are_found_in_subfolders_and_grouped_by_task(runs):
    found = listing.list_runs(runs)
    assert names(found) == ["a", "b", "c", "d"]
    assert [run.task for run in found] == [*["classification"] * 3, "segmentation"]
    assert found[1].metric == "accuracy"
    assert (found[1].value, found[1].low) == (0.75, 0.0625)
    assert (found[2].status, found[2].detail) == ("unfinished", "epoch 1 of 2")
    assert found[3].metric == "miou"


@pytest.mark.parametrize(
    ("order", "expected"), [("figure", "bacd"), ("seconds", "cabd"), ("name", "abcd")]
)
def test_runs_are_sorted_within_their_task(runs, order, expected):
    assert "".join(names(listing.list_runs(runs, sort=order))) == expected


def test_the_best_loss_is_the_smallest(runs):
    for name in "ab":
        report = json.loads((runs / name / "report.json").read_text())
        report["figures"] = {"loss": report["figures"]["accuracy"]}
        (runs / name / "report.json").write_text(json.dumps(report))
    assert names(listing.list_runs(runs, sort="figure"))[:2] == ["a", "b"]


def test_the_main_figure_is_the_one_with_an_interval():
    figures = {"bleu1": 0.5, "bleu4": 0.2, "bleu4_low": 0.1, "bleu4_high": 0.3}
    assert listing.main_figure(figures) == "bleu4"
    assert listing.main_figure({"kid": 1.0, "recall": 0.5}) == "kid"
    assert listing.main_figure({}) == ""


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("report.json", "{"),
        ("report.json", "[]"),
        ("report.json", '{"task": 3, "flags": {}, "figures": {}, "environment": {}}'),
        ("recipe.yaml", "task: ["),
        ("recipe.yaml", "[]"),
        ("recipe.yaml", "\0"),
        ("checkpoint/state.json", '{"epoch": "many"}'),
    ],
)
def test_a_damaged_run_is_listed_as_such(runs, file, content, capsys):
    path = runs / ("a" if file == "report.json" else "c") / file
    path.write_text(content)
    (run,) = (run for run in listing.list_runs(runs) if run.status == listing.DAMAGED)
    assert run.path == path.parents[len(path.relative_to(runs).parts) - 2]
    assert main(["runs", str(runs)]) == 0
    assert f"damaged: {path}" in capsys.readouterr().out


def test_a_run_whose_process_exists_is_running(runs):
    owner = runs / "c" / ".lock.owner"
    for text, status in (
        (f"process {os.getpid()} on {socket.gethostname()}", "running"),
        (f"process {os.getpid()} on another-{socket.gethostname()}", "unfinished"),
        (f"process {2**31 - 2} on {socket.gethostname()}", "unfinished"),
        ("process 999999999999999999999 on x", "unfinished"),
    ):
        owner.write_text(text)
        assert listing.read_summary(runs / "c").status == status


def test_the_table_and_json(runs, capsys):
    assert main(["runs", str(runs), "--sort", "figure"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "classification"
    assert lines[1].split() == ["run", "model", "data", "set", "accuracy", "time", "date"]
    assert lines[2].split()[:6] == ["b", "mlp", "fashion_sample", "75.00%", "1", "min"]
    assert "epoch 1 of 2" in lines[4]
    assert main(["runs", str(runs), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["value"] for row in rows][:2] == [0.25, 0.75]
    assert rows[0]["path"] == str(runs / "a")


def test_a_terminal_of_80_columns_is_not_exceeded(runs, capsys, monkeypatch):
    (runs / "a").rename(runs / f"a{'-long' * 30}")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main(["runs", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) == 80
    assert any("…" in line for line in lines)


def test_wrong_folders_are_usage_errors(tmp_path, capsys):
    for words, message in (
        ([str(tmp_path / "none")], "no folder"),
        ([str(tmp_path)], "no run in"),
        ([str(tmp_path), "--sort", "colour"], "invalid choice: 'colour'"),
    ):
        assert main(["runs", *words]) == 1
        assert message in capsys.readouterr().err
