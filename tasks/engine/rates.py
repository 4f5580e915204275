"""How the learning rate changes over a run: one formula per name, warm-up for all."""

from __future__ import annotations

from zoo.lazy import np

# Of the way after warm-up, an array from 0 to 1, and the schedule's own numbers: the share of the
# peak. Step: He et al., 2015; cosine: Loshchilov & Hutter, 2016; one_cycle: Smith & Topin, 2017.
SHAPES = {
    "constant": lambda way, own: np.ones_like(way),
    "step": lambda way, own: own["decay"] ** _passed(way, own["milestones"]),
    "exponential": lambda way, own: own["decay"] ** way,
    "polynomial": lambda way, own: own["decay"] + (1 - own["decay"]) * (1 - way) ** own["power"],
    "cosine": lambda way, own: _cosine(way),
    "plateau": lambda way, own: np.ones_like(way),  # times a factor, from epoch to epoch
    "one_cycle": lambda way, own: ONE_CYCLE_END + (1 - ONE_CYCLE_END) * _cosine(way),
}
NAMES = tuple(SHAPES)

ONE_CYCLE_WARMUP, ONE_CYCLE_START, ONE_CYCLE_END = 0.3, 1 / 25, 1e-4


def shares(name, steps, warmup_steps, own):
    """Returns the share of the peak rate at each step, `(steps,)`.

    Args:
        name: a key of `SHAPES`.
        steps: optimiser steps of the whole run.
        warmup_steps: steps in which the rate rises in a straight line to the peak; 0 for the
            schedule's own, which is none but for `one_cycle`.
        own: the numbers `decay`, `milestones` and `power` of those schedules that have them.
    """
    cycle = name == "one_cycle"
    warmup = warmup_steps or (int(ONE_CYCLE_WARMUP * steps) if cycle else 0)
    step = np.arange(steps, dtype="float64")
    way = np.clip((step - warmup) / max(steps - warmup, 1), 0, 1)
    if name == "step":  # milestones are said of the whole run
        way = step / steps
    start = ONE_CYCLE_START if cycle else 0.0
    risen = start + (1 - start) * step / max(warmup, 1)
    return np.where(step < warmup, risen, SHAPES[name](way, own))


def _cosine(way):
    return 0.5 * (1 + np.cos(np.pi * way))


def _passed(way, milestones):
    """Counts the milestones that have been passed."""
    return sum((way >= milestone).astype("float64") for milestone in milestones)
