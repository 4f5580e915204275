"""Licences of weights."""

from __future__ import annotations

import pytest

import zoo
from zoo.weights import licences


@pytest.mark.parametrize(
    ("licence", "commercial"),
    [
        ("MIT (Kaiming He's weights, as Keras distributes them)", True),
        ("Apache 2.0", True),
        ("Apache-2.0", True),
        ("The MIT License", True),
        ("BSD 3-clause (torchvision)", True),
        ("CC BY 4.0", True),
        ("CC BY-NC 4.0", False),
        ("CC-BY-NC-SA-4.0", False),
        ("MIT (code; weights for non-commercial use)", False),
        ("for research only", False),
        ("GPL 3", None),
        ("MIT or so", None),
        ("", None),
    ],
)
def test_commercial_use_of_licences(licence, commercial):
    assert licences.allows_commercial_use(licence) is commercial
    assert licences.matches_filter(licence, "commercial") is (commercial is True)
    assert licences.matches_filter(licence, "noncommercial") is (commercial is False)


def test_licence_filter_by_part_of_the_name():
    assert licences.matches_filter("Apache 2.0 (Google)", "apache")
    assert licences.matches_filter("CC BY 4.0", "cc-by")
    assert not licences.matches_filter("MIT", "apache")
    assert not licences.matches_filter("", "mit")


def test_every_licence_in_the_zoo_is_classified():
    for name in zoo.names(weights=True):
        assert zoo.spec(name).weights.commercial is not None, name
