"""The learning rate range test: which rates teach this model on these data, and which break it.

Smith, "Cyclical Learning Rates for Training Neural Networks", 2017, section 3.3:
https://arxiv.org/abs/1506.01186. The rate rises step by step until the loss runs away.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from tasks.distributed import strategies
from tasks.engine import optimize, training_run
from tasks.inference import dtype_policies
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

tqdm = LazyModule("tqdm")

MIN_LEARNING_RATE, MAX_LEARNING_RATE, NUM_STEPS = 1e-7, 1.0, 100
SMOOTHING = 0.9  # of the running mean of the loss
DIVERGENCE_FACTOR = 4.0  # times the lowest smoothed loss: where the test ends
SAFETY_FACTOR = 3.0  # by which a rate is divided that is only just not too high
MIN_STEPS = 10  # before which nothing can be said


@dataclass(frozen=True)
class LRFinderResult:
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


def lr_find(task, *, low=MIN_LEARNING_RATE, high=MAX_LEARNING_RATE, steps=NUM_STEPS):
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
    if not 0 < low < high or steps < MIN_STEPS:
        raise UsageError(
            f"a range test goes from a low rate to a higher one in {MIN_STEPS} steps or more; "
            f"not from {low:g} to {high:g} in {steps}"
        )
    with dtype_policies.dtype_policy_scope(task.precision, task.flops()):
        rates = np.geomspace(low, high, steps)
        return summarize(rates, list(_train_losses(task, rates)))


def summarize(rates, losses):
    """Returns the `Sweep` of losses by rate, of which there may be fewer than rates.

    Raises:
        UsageError: the loss never falls.
    """
    smoothed = list(_moving_average(losses))
    rates = [float(rate) for rate in rates[: len(losses)]]
    finite = [value if math.isfinite(value) else math.inf for value in smoothed]
    lowest = int(np.argmin(finite)) if finite else 0
    if lowest < 2:
        raise UsageError(
            f"no rate from {rates[0]:g} up makes the loss fall; start from a lower --low, or look "
            "at the data with `zoo doctor`"
        )
    slopes = np.gradient(np.array(finite[: lowest + 1]), np.log10(rates[: lowest + 1]))
    safe = max(2, sum(rate <= rates[lowest] / SAFETY_FACTOR for rate in rates))
    suggestion = rates[int(np.argmin(slopes[:safe]))]
    return LRFinderResult(rates, losses, smoothed, suggestion, lowest=rates[lowest])


def _train_losses(task, rates):
    """Yields the loss at each rate, until it runs away."""
    run = training_run.TrainingRun(task, task.load(), strategies.create_strategy("one"))
    prepared_stage = run.prepared_stage(0)
    rising = task.make_optimizer(optimize.schedules.Schedule(rates))
    task.compile(prepared_stage.training_model, prepared_stage.data, rising)
    batches = itertools.chain.from_iterable(
        prepared_stage.stream.epoch(n) for n in itertools.count()
    )
    observed = []
    bar = tqdm.tqdm(rates, desc="rates", leave=False, disable=None)
    for _, (images, labels) in zip(bar, batches, strict=False):
        logs = prepared_stage.training_model.train_on_batch(images, labels, return_dict=True)
        prepared_stage.training_model.reset_metrics()
        observed.append(float(logs["loss"]))
        yield observed[-1]
        *_, last = smoothed = list(_moving_average(observed))
        if not math.isfinite(last) or (
            len(observed) > MIN_STEPS and last > DIVERGENCE_FACTOR * min(smoothed)
        ):
            return


def _moving_average(losses):
    """Yields the running mean, each as if the first losses were not too few."""
    mean = 0.0
    for count, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        yield mean / (1 - SMOOTHING**count)
