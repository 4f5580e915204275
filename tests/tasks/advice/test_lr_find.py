"""The learning rate range test on synthetic losses, and its command."""

from __future__ import annotations

import json
import math
from xml.etree import ElementTree

import numpy as np
import pytest

import tasks
from scripts import __main__ as cli
from tasks.advice import lr_find, lr_plot
from zoo.errors import UsageError

RATES = np.geomspace(1e-6, 1.0, 121)  # 20 to a decade


def valley(fastest, lowest):
    """Losses that fall fastest at one rate, are lowest at another, and then diverge."""
    decades = np.log10(RATES)
    fall = 2.0 - 1.5 / (1 + np.exp(-6 * (decades - np.log10(fastest))))
    return fall + np.where(lowest < RATES, 3 * (decades - np.log10(lowest)), 0.0)


@pytest.mark.parametrize("fastest", [1e-4, 1e-3])
def test_suggestion_is_where_the_loss_falls_fastest(fastest):
    found = lr_find.summarize(RATES, list(valley(fastest, 3e-2)))
    # The moving average lags by about ten steps, half a decade.
    assert fastest < found.suggestion < fastest * 10**0.7
    assert found.suggestion <= found.lowest / lr_find.SAFETY_FACTOR


def test_moving_average_matches_a_slow_formula():
    losses = [3.0, 1.0, 2.0]
    weights = [0.9**age for age in (2, 1, 0)]
    mean = np.dot(weights, losses) / sum(weights)
    assert list(lr_find._moving_average(losses))[-1] == pytest.approx(mean)


def test_rising_loss_is_an_error():
    with pytest.raises(UsageError, match="the loss does not fall at any learning rate from 1e-06"):
        lr_find.summarize(RATES, list(np.linspace(1, 9, len(RATES))))


@pytest.mark.parametrize(
    ("low", "high", "steps"),
    [
        (1.0, 0.1, 50),
        (0.0, 1.0, 50),
        (0.1, 1.0, 3),
        (0.1, math.inf, 50),
        (math.nan, 1.0, 50),
        (0.1, math.nan, 50),
    ],
)
def test_invalid_range_is_rejected(low, high, steps):
    with pytest.raises(UsageError, match="a range test needs 0 < --low < --high"):
        lr_find.lr_find(tasks.get("classification")(), low=low, high=high, steps=steps)


@pytest.mark.check
def test_command_suggests_a_learning_rate(tmp_path, capsys):
    words = [
        "lr-find",
        "lenet5",
        "fashion_sample",
        "--steps",
        "40",
        "--json",
        "--train-split",
        "train[:320]",
    ]
    assert cli.main([*words, "--plot", str(tmp_path / "plot.svg"), "--batch-size", "16"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 3e-5 < found["suggestion"] < 3e-2
    assert found["suggestion"] < found["lowest"]
    assert len(found["rates"]) == len(found["losses"]) <= 40
    text = (tmp_path / "plot.svg").read_text()
    assert f"{found['suggestion']:.1e}" in "".join(ElementTree.fromstring(text).itertext())


def test_plot_of_a_diverged_loss():
    losses = [2.0, 1.5, 1.0, np.inf, np.nan]
    drawn = lr_plot.lr_svg([1e-4, 1e-3, 1e-2, 1e-1, 1.0], losses, losses, 1e-3)
    assert "nan" not in drawn
    assert "inf" not in drawn
