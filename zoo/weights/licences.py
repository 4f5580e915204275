"""Classifies the licences of weights by name: commercial use allowed, forbidden or unknown.

Only the licence of the weights is considered. Terms of the images that they were trained on may
restrict their use as well; that is a legal question that this table does not answer.
"""

from __future__ import annotations

import re

# Permissive licences: they allow commercial use, at most with attribution.
COMMERCIAL_LICENCES = {
    "Apache 2.0",
    "BSD",
    "BSD 2-Clause",
    "BSD 3-Clause",
    "CC BY 3.0",
    "CC BY 4.0",
    "CC0 1.0",
    "ISC",
    "MIT",
    "Unlicense",
}
NONCOMMERCIAL_PATTERN = re.compile(
    r"\bnc\b|\bnon ?commercial\b|\bacademic use\b|\bresearch (only|use)\b"
)


def allows_commercial_use(licence):
    """Returns whether a licence allows commercial use; `None` if its name does not determine it.

    Args:
        licence: the name, optionally with a remark in parentheses: `MIT (Kaiming He's weights)`.
            Case, hyphens and the word "licence" are ignored.
    """
    if NONCOMMERCIAL_PATTERN.search(_normalize_name(licence)):
        return False
    return True if _normalize_name(licence.partition("(")[0]) in _COMMERCIAL_NAMES else None


def matches_filter(licence, wanted):
    """Returns whether a licence matches a filter.

    Args:
        licence: as for `allows_commercial_use`; `""`, no licence, matches nothing.
        wanted: `commercial`, `noncommercial` (commercial use is forbidden), or a part of a name,
            such as `apache`.
    """
    if wanted in ("commercial", "noncommercial"):
        return bool(licence) and allows_commercial_use(licence) is (wanted == "commercial")
    return bool(licence) and _normalize_name(wanted) in _normalize_name(licence)


def _normalize_name(name):
    words = re.sub(r"[^\w.]+", " ", name.lower())
    return re.sub(r"\b(the|licen[cs]e)\b", " ", words).replace("  ", " ").strip()


_COMMERCIAL_NAMES = {_normalize_name(name) for name in COMMERCIAL_LICENCES}
