"""Formulas of the learning rate schedules, all with linear warmup."""

from __future__ import annotations

from zoo.lazy import np

# From the progress after warmup, an array from 0 to 1, and the options to the factor of the peak.
# Step: He et al., 2015; cosine: Loshchilov & Hutter, 2016; one_cycle: Smith & Topin, 2017.
SHAPES = {
    "constant": lambda progress, options: np.ones_like(progress),
    "step": lambda progress, options: (
        options["decay"] ** _milestones_passed(progress, options["milestones"])
    ),
    "exponential": lambda progress, options: options["decay"] ** progress,
    "polynomial": lambda progress, options: (
        options["decay"] + (1 - options["decay"]) * (1 - progress) ** options["power"]
    ),
    "cosine": lambda progress, options: _cosine(progress),
    # Constant here; multiplied by a factor that changes from epoch to epoch.
    "plateau": lambda progress, options: np.ones_like(progress),
    "one_cycle": lambda progress, options: ONE_CYCLE_END + (1 - ONE_CYCLE_END) * _cosine(progress),
}
SCHEDULE_NAMES = tuple(SHAPES)

ONE_CYCLE_WARMUP, ONE_CYCLE_START, ONE_CYCLE_END = 0.3, 1 / 25, 1e-4


def multipliers(name, steps, warmup_steps, options):
    """Returns the learning rate of each step relative to the peak, `(steps,)`.

    Args:
        name: A key of `SHAPES`.
        steps: Optimizer steps of the whole run.
        warmup_steps: Steps of linear warmup to the peak; 0 for the default of the schedule,
            which is no warmup except for `one_cycle`.
        options: `decay`, `milestones` and `power`, of the schedules that have them.
    """
    cycle = name == "one_cycle"
    warmup = warmup_steps or (int(ONE_CYCLE_WARMUP * steps) if cycle else 0)
    step = np.arange(steps, dtype="float64")
    progress = np.clip((step - warmup) / max(steps - warmup, 1), 0, 1)
    if name == "step":  # milestones are fractions of the whole run
        progress = step / steps
    start = ONE_CYCLE_START if cycle else 0.0
    warmup_multipliers = start + (1 - start) * step / max(warmup, 1)
    return np.where(step < warmup, warmup_multipliers, SHAPES[name](progress, options))


def _cosine(progress):
    return 0.5 * (1 + np.cos(np.pi * progress))


def _milestones_passed(progress, milestones):
    """Returns the number of milestones passed at each step."""
    return sum((progress >= milestone).astype("float64") for milestone in milestones)
