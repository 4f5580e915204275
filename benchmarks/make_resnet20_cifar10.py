"""Trains `resnet20.cifar10` and packs it: python benchmarks/make_resnet20_cifar10.py --data-dir DIR

Runs `resnet20_cifar10.yaml` (an interrupted run resumes, a finished one is only packed), rounds the
weights to 16 bits, writes them into the package, and prints the values for the spec: the SHA-256 of
the file, and the accuracy of the rounded weights on all 10,000 test images of CIFAR-10 (He et al.,
2015, table 6: 0.9125).
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import zoo
from tasks.classification import metrics
from tasks.data import batches, decoding, sources
from tasks.engine import recipes, resume, trainer
from zoo import model_files, weights

RECIPE = Path(__file__).with_name("resnet20_cifar10.yaml")
NAME = "resnet20_cifar10.npz"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", required=True, help="where TFDS keeps cifar10")
    parser.add_argument("--out", type=Path, default=Path("runs/resnet20_cifar10"))
    parser.add_argument("--to", type=Path, default=weights.ASSETS / NAME)
    args = parser.parse_args()

    recipe = {**recipes.read_recipe(RECIPE), "data_dir": args.data_dir}
    trainer.train(recipes.task_from_recipe(recipe), args.out)
    model, _ = model_files.load(args.out / resume.MODEL)
    weights.save(model, args.to)
    print(f"sha256    {hashlib.sha256(args.to.read_bytes()).hexdigest()}")
    print(f"bytes     {args.to.stat().st_size}")
    print(f"accuracy  {accuracy(args.to, args.data_dir):.4f}")


def accuracy(path, data_dir):
    """Returns the test accuracy of a `resnet20` with the weights in a file."""
    model = zoo.build("resnet20", weights=path)
    test = sources.load("tfds:cifar10", data_dir).splits["test"]
    examples = decoding.decode(test, model.input_shape[1:], "stretch")
    logits = batches.predict(model, examples, batch_size=100)
    return metrics.classification_metrics(logits, examples.labels)["accuracy"]


if __name__ == "__main__":
    main()
