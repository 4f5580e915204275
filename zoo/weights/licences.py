"""What the licences of weights allow, told by their names.

Only what a name says is known here. Terms on the images that weights were trained on are another
matter, which no table settles.
"""

from __future__ import annotations

import re

# use for gain is allowed to anyone who keeps the notice, if even that is asked
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
    """Tells whether a licence allows commercial use; `None` where its name does not say so.

    Args:
        licence: its name, and perhaps more in parentheses: `MIT (Kaiming He's weights)`. Case,
            hyphens and the word "licence" do not matter.
    """
    if NONCOMMERCIAL_PATTERN.search(_normalize_name(licence)):
        return False
    return True if _normalize_name(licence.partition("(")[0]) in _COMMERCIAL_NAMES else None


def matches_filter(licence, wanted):
    """Tells whether a licence is among those that somebody asks for.

    Args:
        licence: as for `commercial`; `""` for none, which is never wanted.
        wanted: `commercial`, `noncommercial` (those that forbid gain), or a part of a name, such
            as `apache`.
    """
    if wanted in ("commercial", "noncommercial"):
        return bool(licence) and allows_commercial_use(licence) is (wanted == "commercial")
    return bool(licence) and _normalize_name(wanted) in _normalize_name(licence)


def _normalize_name(name):
    words = re.sub(r"[^\w.]+", " ", name.lower())
    return re.sub(r"\b(the|licen[cs]e)\b", " ", words).replace("  ", " ").strip()


_COMMERCIAL_NAMES = {_normalize_name(name) for name in COMMERCIAL_LICENCES}
