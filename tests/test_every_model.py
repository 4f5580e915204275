"""Every model of every task: trained for one step, then used by another process."""

from __future__ import annotations

import multiprocessing
import os

import numpy as np
import pytest
from PIL import Image

import tasks
import zoo
from scripts.__main__ import main
from tasks.gan import networks

SPLITS = {"train_split": "train[:4]", "validation_split": "train[4:8]", "test_split": "test[:4]"}
TINY = {  # task: flags of a run of one step
    "classification": {**SPLITS, "batch_size": 4},
    "segmentation": {**SPLITS, "batch_size": 4, "image_size": 64},
    "detection": {**SPLITS, "batch_size": 4, "image_size": 64, "backbone": "lenet5"},
    "captioning": {
        **SPLITS,
        "batch_size": 4,
        "image_size": 32,
        "backbone": "lenet5",
        "min_count": 1,
        "model_options": "{widths: [8], embedding: 8, units: 8}",
    },
    "gan": {
        "train_split": "train[:16]",
        "validation_split": "train[16:32]",
        "test_split": "test[:16]",
        "batch_size": 16,
        "width": 4,
        "latent_size": 8,
        "num_samples": 16,
        "validation_samples": 16,
        "grid_samples": 8,
    },
    "style_transfer": {
        **SPLITS,
        "backbone": "lenet5",
        "backbone_weights": "random",
        "image_size": 32,
        "patch_size": 32,
        "batch_size": 4,
        "steps": 1,
    },
    "dqn": {
        "epoch_steps": 16,
        "learning_starts": 16,
        "replay_size": 100,
        "batch_size": 8,
        "train_frequency": 16,
        "validation_episodes": 1,
        "test_episodes": 2,
    },
    "sequence": {
        "units": 8,
        "stride": 50_000,
        "validation_fraction": 0.001,
        "test_fraction": 0.001,
    },
}
SMALL = {  # options with which a model runs in little time
    "fcn32s": "{hidden: [8, 8], kernel_size: 3}",
    "fcn16s": "{hidden: [8], kernel_size: 3}",
    "segnet": "{widths: [4, 6, 8], depths: [2, 1, 2]}",
    "unet": "{widths: [4, 8]}",
    "unet_paper": "{widths: [4, 8]}",
    "deeplabv3plus": "{width: 8, backbone_weights: random}",
    "faster_rcnn": "{levels: [2, 3], channels: 8, proposals: 12, hidden: [8]}",
    "retinanet": "{levels: [2, 3], channels: 8, depth: 1, octave: 1}",
    "fast_rcnn": "{region_size: 3, hidden: [8]}",
    "rcnn": "{crop_size: 16, hidden: [8]}",
    "fast_style": "{width: 4, depth: 1}",
    "fast_style_paper": "{width: 4, depth: 1}",
}
MORE = {  # further flags of a model
    "fcn32s": {"backbone": "mobilenet_025"},
    "fcn16s": {"backbone": "mobilenet_025"},
    "fcn8s": {"backbone": "mobilenet_025"},
    "unet_backbone": {"backbone": "lenet5"},
    "deeplabv3plus": {"backbone": "lenet5"},
    "segnet_vgg16": {"backbone": "resnet20"},
    "gatys": {"steps": 1, "image_size": 32},
    "minatar_dqn": {"dataset": "catch"},
    "nature_dqn": {"dataset": "catch", "environment_options": "{cell: 4, border: 0}"},
    "nips_dqn": {"dataset": "catch", "environment_options": "{cell: 4, border: 0}"},
}
NOT_PREDICTED = {  # why zoo predict rejects a model or a task
    "gan": "does not take images; use `zoo generate`",
    "dqn": "does not take images; use `zoo evaluate`",
    "gatys": "holds one image",
}
INPUTS = {"sequence": "prompt.txt"}  # of zoo predict, if not a photo

LARGE = 500_000  # parameters of a classifier that only `--slow` runs


def models(task):
    """Returns the names of the models of a task."""
    kind = tasks.get(task).kind if isinstance(getattr(tasks.get(task), "kind", 0), str) else ""
    kind = {"style_transfer": "stylizer"}.get(task, kind)
    known = [name for name in zoo.names(kind=kind) if "." not in name] if kind else []
    return {"gan": list(networks.VARIANTS), "style_transfer": ["gatys", *known]}.get(task, known)


def smallest(task, names):
    """Returns the network with the fewest parameters of each family, but no large classifier."""
    specs = {name: zoo.spec(name) for name in names if name in zoo.names()}
    by_size = sorted(specs, key=lambda name: specs[name].parameters, reverse=True)
    found = {specs[name].family: name for name in by_size}.values()
    limit = LARGE if task == "classification" else float("inf")
    return {name for name in found if specs[name].parameters < limit} | (set(names) - set(specs))


def every():
    """Returns a parameter set for each model: `--slow` runs all, `--check` one of each family."""
    found = []
    for task in TINY:
        names = models(task)
        checked = smallest(task, names)
        for name in names:
            mark = pytest.mark.check if name in checked else pytest.mark.slow
            found.append(pytest.param(task, name, marks=mark, id=f"{task}-{name}"))
    return found


def use(run, image, folder, connection):
    """Predicts with a run, evaluates and checks it; sends the exit statuses."""
    with open(folder / "stderr.txt", "w") as file:
        os.dup2(file.fileno(), 2)
    predict = ["predict", run, image, "--output", folder / "found.csv", "--drawings-dir", folder]
    commands = (predict, ["evaluate", run], ["doctor", run])
    connection.send([main(list(map(str, words))) for words in commands])


def use_in_another_process(*args):
    """Returns the exit statuses of `use` in a process that has only imported the frameworks."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["keras", "tensorflow"])
    receiver, sender = server.Pipe(duplex=False)
    process = server.Process(target=use, args=(*args, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return []
    finally:
        process.join()


def test_every_task_and_model_has_a_case():
    assert sorted(TINY) == sorted(tasks.names())
    known = {name for task in TINY for name in models(task)}
    players = {"dcgan_generator", "dcgan_critic"}  # of dcgan and wgan_gp
    assert known >= {name for name in zoo.names() if "." not in name} - players


@pytest.mark.parametrize(("task", "model"), every())
def test_trained_model_is_used_by_another_process(task, model, tmp_path, capfd):
    flags = {**TINY[task], **MORE.get(model, {}), "model": model, "epochs": 1}
    if task == "classification":
        flags["image_size"] = max(zoo.spec(model).min_size, 16)
    if options := SMALL.get(model):
        flags["model_options"] = options
    words = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    out, image = tmp_path / "run", tmp_path / INPUTS.get(task, "photo.png")
    assert main(["train", task, *words, "--out", str(out)]) == 0
    assert "Traceback" not in capfd.readouterr().err
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), "uint8")
    if task == "sequence":
        image.write_text("The")
    else:
        Image.fromarray(pixels).save(image)
    statuses = use_in_another_process(out, image, tmp_path)
    stderr = (tmp_path / "stderr.txt").read_text()
    assert len(statuses) == 3, stderr
    assert "Traceback" not in stderr
    predicted, evaluated, doctored = statuses
    assert evaluated == (model == "gatys"), stderr  # which only its own report evaluates
    if reason := NOT_PREDICTED.get(model, NOT_PREDICTED.get(task)):
        assert (predicted, reason in stderr) == (1, True)
    else:
        assert predicted == 0, stderr
        assert image.name in (tmp_path / "found.csv").read_text()
    assert doctored in (0, 1)  # 1: a finding, or a model that the doctor cannot check
