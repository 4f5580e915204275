"""Escaping of formulas in CSV files, and of line ends in terminal tables."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import pytest

from scripts._output import format_table
from tasks.deploy import prediction_writer
from tasks.engine import resume
from tasks.report.csv_cells import escape_formula
from tasks.tuning import trial, trials_table

FORMULA = "=cmd|' /C calc'!A0"


@pytest.mark.parametrize(
    "text", [FORMULA, "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "-x.png"]
)
def test_formulas_are_escaped(text):
    assert escape_formula(text) == f"'{text}"


@pytest.mark.parametrize("cell", ["cat", "", "a=b", "'x", "-1.5", "+3e-4", "-inf", -1.5, -3, None])
def test_numbers_and_other_text_are_unchanged(cell):
    assert escape_formula(cell) is cell


def test_prediction_files(tmp_path):
    predictor = SimpleNamespace(
        columns=("path", "class", "probability", "error"),
        csv_rows=lambda prediction: [(FORMULA, -0.5)],
        text_lines=lambda prediction: ["cat\n/etc/passwd\x1b[2J"],
    )
    kind = prediction_writer.FORMATS["csv"]
    assert kind.row(predictor, {"path": "@x.png"}) == f"'@x.png,'{FORMULA},-0.5,\n"
    assert kind.row(predictor, {"path": "x", "error": "=1"}) == "x,,,'=1\n"
    shown = prediction_writer.FORMATS["text"].row(predictor, {"path": "a\rb"})
    assert shown == "a\\rb\n  cat\\n/etc/passwd\\x1b[2J\n"


def test_trials_table(tmp_path):
    outcome = trial.TrialResult(trial.FAILED, "-- what went wrong")
    (tmp_path / "trials").mkdir()
    trials_table.write_trial(tmp_path, "0", {"dataset": FORMULA, "l1": -1.0}, [-0.25], outcome)
    trials_table.write_csv(tmp_path, trials_table.read_trials(tmp_path))
    (row,) = csv.DictReader((tmp_path / trials_table.TRIALS_CSV).read_text().splitlines())
    assert (row["dataset"], row["reason"]) == (f"'{FORMULA}", "'-- what went wrong")
    assert (row["score"], row["l1"]) == ("-0.25", "-1.0")


def test_history_file(tmp_path):
    resume.write_history(tmp_path, [{"epoch": 1, "loss": -2.5, FORMULA: 0.5}])
    (row,) = csv.DictReader((tmp_path / "history.csv").read_text().splitlines())
    assert row == {"epoch": "1", "loss": "-2.5", f"'{FORMULA}": "0.5"}


def test_a_name_in_a_table_is_one_line():
    assert format_table(("name",), [("a\nb\x1b",)]).splitlines() == ["name", r"a\nb\x1b"]


def test_wide_characters_take_two_columns_of_a_table():
    rows = [("日本", "1"), ("cafe\u0301", "22")]
    lines = format_table(("name", "count"), rows, ("count",)).splitlines()
    assert lines == ["name  count", "日本      1", "cafe\u0301     22"]
