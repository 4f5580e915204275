"""Paired comparisons against SciPy and a slow formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tasks.report import paired_tests

stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize(
    "counts", [(0, 0), (1, 0), (0, 7), (5, 5), (12, 20), (20, 12), (3, 400), (2100, 2300)], ids=str
)
def test_mcnemar_is_a_binomial_test_of_a_half(counts):
    total = sum(counts)
    expected = stats.binomtest(counts[0], total, 0.5).pvalue if total else 1.0
    assert paired_tests.mcnemar_exact(*counts) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_accuracies_have_the_counts_of_mcnemar_and_an_interval():
    first = np.array([1] * 60 + [0] * 40)
    second = np.array([1] * 50 + [0] * 10 + [1] * 30 + [0] * 10)
    found = paired_tests.paired_difference(first, second, seed=0)
    assert (found["first_only"], found["second_only"], found["images"]) == (10, 30, 100)
    assert found["difference"] == pytest.approx(0.2)
    assert found["p_value"] == pytest.approx(stats.binomtest(10, 40, 0.5).pvalue)
    # The standard error of the mean of 30 values of 1, 10 of -1 and 60 of 0.
    error = math.sqrt((0.4 - 0.2**2) / 100)
    assert found["low"] == pytest.approx(0.2 - 1.96 * error, abs=0.02)
    assert found["high"] == pytest.approx(0.2 + 1.96 * error, abs=0.02)


def test_the_interval_is_that_of_a_bootstrap_over_pairs():
    random = np.random.default_rng(0)
    first = random.exponential(size=80)
    second = first + random.normal(0.1, 0.2, 80)  # the images are hard for both or for neither
    found = paired_tests.paired_difference(first, second, seed=0)
    draws = [random.integers(0, 80, 80) for _ in range(4000)]
    slow = np.quantile([np.mean(second[d]) - np.mean(first[d]) for d in draws], [0.025, 0.975])
    np.testing.assert_allclose([found["low"], found["high"]], slow, atol=0.01)
    unpaired = np.quantile(
        [np.mean(second[d]) - np.mean(first[e]) for d, e in zip(draws, draws[::-1], strict=True)],
        [0.025, 0.975],
    )
    assert np.ptp(unpaired) > 3 * (found["high"] - found["low"])
    assert "p_value" not in found


def test_images_without_a_figure_are_left_out():
    found = paired_tests.paired_difference([1.5, np.nan, 2.0], [2.5, 1.0, 3.5], seed=0)
    assert found["images"] == 2
    assert found["difference"] == pytest.approx(1.25)
    empty = paired_tests.paired_difference([np.nan], [1.0], seed=0)
    assert empty["images"] == 0
    assert math.isnan(empty["difference"])


def test_equal_results_are_not_certain():
    found = paired_tests.paired_difference([1, 1, 0], [1, 1, 0], seed=0)
    assert found["difference"] == 0
    assert found["p_value"] == 1
    assert found["low"] < 0 < found["high"]
