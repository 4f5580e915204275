"""Learning rate range test (Smith, 2017): the learning rate rises until the loss diverges.

Smith, "Cyclical Learning Rates for Training Neural Networks", 2017, section 3.3:
https://arxiv.org/abs/1506.01186.
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
DIVERGENCE_FACTOR = 4.0  # times the lowest smoothed loss, at which the test ends
SAFETY_FACTOR = 3.0  # of the suggestion below the rate of the lowest loss
MIN_STEPS = 10  # of a range test


@dataclass(frozen=True)
class LRFinderResult:
    """The result of a range test.

    Attributes:
        rates: learning rate of each step.
        losses: loss of the batch of each step, before its update.
        smoothed: moving average of the losses.
        suggestion: learning rate at which the smoothed loss falls fastest per decade, a factor of
            at least `SAFETY_FACTOR` below `lowest`.
        lowest: learning rate with the lowest smoothed loss; higher rates are too high.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float
    lowest: float


def lr_find(task, *, low=MIN_LEARNING_RATE, high=MAX_LEARNING_RATE, steps=NUM_STEPS):
    """Trains a few steps at rising learning rates and suggests one; the model is discarded.

    Args:
        task: a `tasks.Task`. If its plan has several stages, the first one is tested. The learning
            rate of the task is ignored.
        low, high: the first and the last learning rate.
        steps: the number of learning rates, evenly spaced on a logarithmic scale.

    Returns:
        An `LRFinderResult`.

    Raises:
        UsageError: the range is invalid, or the loss does not fall at any rate.
    """
    if not 0 < low < high < math.inf or steps < MIN_STEPS:
        raise UsageError(
            f"a range test needs 0 < --low < --high < inf and at least {MIN_STEPS} --steps, not "
            f"{low:g}, {high:g} and {steps}"
        )
    with dtype_policies.dtype_policy_scope(task.precision, task.flops()):
        rates = np.geomspace(low, high, steps)
        return summarize(rates, list(_train_losses(task, rates)))


def summarize(rates, losses):
    """Returns the `LRFinderResult` of losses by rate; the last rates may have no loss.

    Raises:
        UsageError: the loss does not fall.
    """
    smoothed = list(_moving_average(losses))
    rates = [float(rate) for rate in rates[: len(losses)]]
    finite = [value if math.isfinite(value) else math.inf for value in smoothed]
    lowest = int(np.argmin(finite)) if finite else 0
    if lowest < 2:
        raise UsageError(
            f"the loss does not fall at any learning rate from {rates[0]:g}; use a lower --low, or "
            "check the data with `zoo doctor`"
        )
    slopes = np.gradient(np.array(finite[: lowest + 1]), np.log10(rates[: lowest + 1]))
    safe = max(2, sum(rate <= rates[lowest] / SAFETY_FACTOR for rate in rates))
    suggestion = rates[int(np.argmin(slopes[:safe]))]
    return LRFinderResult(rates, losses, smoothed, suggestion, lowest=rates[lowest])


def _train_losses(task, rates):
    """Yields the loss at each learning rate until it diverges."""
    run = training_run.TrainingRun(task, task.load(), strategies.create_strategy("one"))
    prepared_stage = run.prepared_stage(0)
    rising = task.make_optimizer(optimize.schedules.Schedule(rates))
    task.compile(prepared_stage.training_model, prepared_stage.data, rising)
    batches = itertools.chain.from_iterable(
        prepared_stage.pipeline.epoch(n) for n in itertools.count()
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
    """Yields the exponential moving average, with bias correction."""
    mean = 0.0
    for count, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        yield mean / (1 - SMOOTHING**count)
