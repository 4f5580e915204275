"""Images and weights that do not fit into memory are rejected before they are allocated."""

from __future__ import annotations

import math

import pytest

import tasks
from scripts.__main__ import main
from tasks.data import memory_limits
from tasks.tuning import trial
from zoo.errors import UsageError

HUGE = 100_000


def test_available_memory_of_system_and_container(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_limits, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory_limits, "CGROUP", tmp_path)
    assert memory_limits.available_bytes() == math.inf
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    2000 kB\n")
    assert memory_limits.available_bytes() == 2000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert memory_limits.available_bytes() == 2000 * 1024
    (tmp_path / "memory.max").write_text("5000\n")
    assert memory_limits.available_bytes() == 4000


def test_a_batch_of_images_is_checked(monkeypatch):
    monkeypatch.setattr(memory_limits, "available_bytes", lambda: 2 * 10 * 20 * 3 * 8)
    memory_limits.check_images((10, 20, 3), 2)
    with pytest.raises(UsageError, match="3 images of 10 x 20 pixels"):
        memory_limits.check_images((10, 20, 3), 3)


@pytest.mark.parametrize("name", [n for n in tasks.names() if hasattr(tasks.get(n), "image_size")])
def test_every_task_rejects_a_huge_image_size(name):
    with pytest.raises(UsageError, match=r"100000 x 100000 pixels .* smaller --image-size"):
        tasks.get(name)(image_size=HUGE).load()


@pytest.mark.parametrize(
    "words",
    [
        "finetune mlp fashion_sample",
        "lr-find lenet5 fashion_sample",
        "rank fashion_sample --models resnet20.cifar10",
    ],
)
def test_commands_reject_a_huge_image_size_in_one_line(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*words.split(), "--image-size", str(HUGE)]) == 1
    assert "100000 x 100000 pixels" in capsys.readouterr().err


def test_weights_are_checked_before_they_are_created(monkeypatch):
    task = tasks.get("classification")(model="mlp", image_size=512)
    monkeypatch.setattr(memory_limits, "available_bytes", lambda: 10**8)
    with pytest.raises(UsageError, match="weights of mlp for images of 512 x 512 pixels"):
        task.network((512, 512, 1), 10)


def test_in_a_search_the_trial_fails(tmp_path):
    task = tasks.get("classification")(model="lenet5", image_size=HUGE)
    outcome = trial.run(task, tmp_path / "0000", None)
    assert outcome.status == trial.FAILED
    assert "100000 x 100000 pixels" in outcome.reason
