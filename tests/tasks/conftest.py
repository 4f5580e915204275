"""Fixtures of the tests of several tasks."""

from __future__ import annotations

import pytest

IN_PROCESS = ("tests.tasks.test_tasks", "tests.tasks.test_matrix", "tests.tasks.gan.test_gan")


@pytest.fixture(autouse=True, scope="module")
def few_batch_norm_samples(request):
    """Estimates the BatchNorm statistics of generators from few images, as training is so short.

    Only in modules that do not compare a run with one of another process.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__ in IN_PROCESS:
            patch.setattr("tasks.gan.BATCH_NORM_SAMPLES", 64)
        yield
