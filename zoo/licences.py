"""What the licences of weights allow, told by their names.

Only what a name says is known here. Terms on the images that weights were trained on are another
matter, which no table settles.
"""

from __future__ import annotations

import re

COMMERCIAL = {  # use for gain is allowed to anyone who keeps the notice, if even that is asked
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
FORBIDDING = re.compile(r"\bnc\b|\bnon ?commercial\b|\bacademic use\b|\bresearch (only|use)\b")


def commercial(licence):
    """Tells whether a licence allows commercial use; `None` where its name does not say so.

    Args:
        licence: its name, and perhaps more in parentheses: `MIT (Kaiming He's weights)`. Case,
            hyphens and the word "licence" do not matter.
    """
    if FORBIDDING.search(_plain(licence)):
        return False
    return True if _plain(licence.partition("(")[0]) in _KNOWN else None


def allowed(licence, wanted):
    """Tells whether a licence is among those that somebody asks for.

    Args:
        licence: as for `commercial`; `""` for none, which is never wanted.
        wanted: `commercial`, `noncommercial` (those that forbid gain), or a part of a name, such
            as `apache`.
    """
    if wanted in ("commercial", "noncommercial"):
        return bool(licence) and commercial(licence) is (wanted == "commercial")
    return bool(licence) and _plain(wanted) in _plain(licence)


def _plain(name):
    words = re.sub(r"[^\w.]+", " ", name.lower())
    return re.sub(r"\b(the|licen[cs]e)\b", " ", words).replace("  ", " ").strip()


_KNOWN = {_plain(name) for name in COMMERCIAL}
