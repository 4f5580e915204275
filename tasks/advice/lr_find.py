"""The learning rate range test: which rates teach this model on these data, and which break it.

Smith, "Cyclical Learning Rates for Training Neural Networks", 2017, section 3.3:
https://arxiv.org/abs/1506.01186. The rate rises step by step until the loss runs away.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from tasks.engine import course, distribute, hardware, optimize
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

tqdm = LazyModule("tqdm")

LOWEST, HIGHEST, STEPS = 1e-7, 1.0, 100
SMOOTHING = 0.9  # of the running mean of the loss
RUNAWAY = 4.0  # times the lowest smoothed loss: where the test ends
MARGIN = 3.0  # by which a rate is divided that is only just not too high
LEAST_STEPS = 10  # before which nothing can be said


@dataclass(frozen=True)
class Sweep:
    """What a range test saw.

    Attributes:
        rates: the learning rate of each step.
        losses: of that step's batch, before its update.
        smoothed: running mean of the losses.
        suggestion: the rate at which the smoothed loss fell fastest, per decade, among those with
            a margin of `MARGIN` below the lowest loss.
        lowest: the rate at which it was lowest; more than that is too much.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float
    lowest: float


def lr_find(task, *, low=LOWEST, high=HIGHEST, steps=STEPS):
    """Trains for a few steps at rising rates and says which one to take; keeps nothing of it.

    Args:
        task: a `tasks.Task`; of a plan in several stages the first one is tried. Its own rate
            counts for nothing.
        low, high: the first and the last rate.
        steps: how many there are, evenly spaced on a logarithmic axis.

    Returns:
        A `Sweep`.

    Raises:
        UsageError: the rates or steps make no range, or no rate of it teaches anything.
    """
    if not 0 < low < high or steps < LEAST_STEPS:
        raise UsageError(
            f"a range test goes from a low rate to a higher one in {LEAST_STEPS} steps or more; "
            f"not from {low:g} to {high:g} in {steps}"
        )
    with hardware.computing(task.precision, task.flops()):
        rates = np.geomspace(low, high, steps)
        return summary(rates, list(_losses(task, rates)))


def summary(rates, losses):
    """Returns the `Sweep` of losses by rate, of which there may be fewer than rates.

    Raises:
        UsageError: the loss never falls.
    """
    smoothed = list(_smooth(losses))
    rates = [float(rate) for rate in rates[: len(losses)]]
    finite = [value if math.isfinite(value) else math.inf for value in smoothed]
    lowest = int(np.argmin(finite)) if finite else 0
    if lowest < 2:
        raise UsageError(
            f"no rate from {rates[0]:g} up makes the loss fall; start from a lower --low, or look "
            "at the data with `zoo doctor`"
        )
    slopes = np.gradient(np.array(finite[: lowest + 1]), np.log10(rates[: lowest + 1]))
    safe = max(2, sum(rate <= rates[lowest] / MARGIN for rate in rates))
    suggestion = rates[int(np.argmin(slopes[:safe]))]
    return Sweep(rates, losses, smoothed, suggestion, lowest=rates[lowest])


def _losses(task, rates):
    """Yields the loss at each rate, until it runs away."""
    run = course.Course(task, task.load(), distribute.strategy("one"))
    lesson = run.lesson(0)
    rising = task.make_optimizer(optimize.schedules.Schedule(rates))
    task.compile(lesson.learner, lesson.data, rising)
    batches = itertools.chain.from_iterable(lesson.stream.epoch(n) for n in itertools.count())
    seen = []
    bar = tqdm.tqdm(rates, desc="rates", leave=False, disable=None)
    for _, (images, labels) in zip(bar, batches, strict=False):
        logs = lesson.learner.train_on_batch(images, labels, return_dict=True)
        lesson.learner.reset_metrics()
        seen.append(float(logs["loss"]))
        yield seen[-1]
        *_, last = smoothed = list(_smooth(seen))
        if not math.isfinite(last) or (len(seen) > LEAST_STEPS and last > RUNAWAY * min(smoothed)):
            return


def _smooth(losses):
    """Yields the running mean, each as if the first losses were not too few."""
    mean = 0.0
    for count, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        yield mean / (1 - SMOOTHING**count)
