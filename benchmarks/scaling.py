"""Measures a training step on several workers, its all-reduce, and extrapolates to more workers.

    python benchmarks/scaling.py [--models lenet5 resnet20 convnet] [--workers 1 2 3] [--batch 16]
    python benchmarks/scaling.py --arithmetic [--models resnet50 vgg16] [--speed 2e13]

Starts worker processes on this machine, connected by `TF_CONFIG` over loopback, which run the
steps of `zoo train --strategy multiworker`: `--batch` examples per worker, forward and backward
pass, all-reduce of the gradients, and the momentum update; once as they are, once with
`--compress-gradients bfloat16`, and once without the all-reduce. The table has the median time of a
step, and that of the all-reduce.

All workers share the CPUs here, so that a step without all-reduce takes longer with more workers;
on separate hosts it would not. The all-reduce is modelled by

    sum(n) = 2 (n - 1) latency + 2 (n - 1) / n bytes / bandwidth

as in a ring, in which every worker sends an n-th of the bytes 2 (n - 1) times. Both constants are
fitted to the measurements by least squares of relative errors. It prints the error of the fit for
each measurement, and the predicted step time of more workers on separate hosts.

With `--arithmetic` nothing is run: it prints the bytes per step and the memory of models of the zoo
from their shapes, and the compute fraction of a step on networks of 10 and 100 Gb/s, with devices
that sustain `--speed` FLOP/s.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MODELS = ("lenet5", "resnet20", "convnet")
LARGE = ("mobilenet_025", "mobilenet_v2", "resnet50", "vgg16")
KINDS = ("none", "bfloat16", "no sum")
WARMUP_STEPS = 3  # steps before the clock starts
PREDICTED_WORKERS = (2, 4, 8, 16, 32, 64)
# Bytes per second, seconds per hop; both are assumptions.
NETWORKS = {"10 Gb/s": (1.25e9, 5e-5), "100 Gb/s": (1.25e10, 1e-5)}
STATE = 4 * 4  # bytes of a weight, its gradient, and the two moments of AdamW


def main():
    """Measures, fits and predicts; or calculates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--batch", type=int, default=16, help="examples on each worker")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--arithmetic", action="store_true")
    parser.add_argument("--speed", type=float, default=2e13, help="FLOP/s that a device sustains")
    parser.add_argument("--results", help=argparse.SUPPRESS)  # where a worker puts its times
    args = parser.parse_args()
    if args.results:
        run_worker(args)
    elif args.arithmetic:
        arithmetic(args)
    else:
        measure(args)


def measure(args):
    """Runs the workers, and prints the measurements, the fit and the predictions."""
    args.models = args.models or list(MODELS)
    rows = [row for count in args.workers for row in run_workers(args, count)]
    print(f"{'model':<12}{'workers':>8}{'gradients':>12}{'MB/step':>9}{'ms/step':>9}{'sum':>7}")
    for row in rows:
        if row["kind"] != "no sum":
            share = max(0.0, row["seconds"] - row["alone"]) / row["seconds"]
            print(
                f"{row['model']:<12}{row['count']:>8}{row['kind']:>12}{row['bytes'] / 1e6:>9.3f}"
                f"{1e3 * row['seconds']:>9.1f}" + (f"{share:>7.0%}" if row["count"] > 1 else "")
            )
    points = [row for row in rows if row["count"] > 1 and row["kind"] != "no sum"]
    if len(points) > 1:
        latency, bandwidth = fit_constants(points)
        print_fit(points, latency, bandwidth)
        alone = {row["model"]: row for row in rows if row["count"] == min(args.workers)}
        print_predictions(alone.values(), latency, bandwidth)


def all_reduce_seconds(count, size, latency, bandwidth):
    """Returns the seconds of a ring all-reduce of `size` bytes over `count` workers."""
    return 2 * (count - 1) * latency + 2 * (count - 1) / count * size / bandwidth


def fit_constants(points):
    """Returns the latency and bandwidth that fit the measurements best."""
    measured_seconds = np.maximum([row["seconds"] - row["alone"] for row in points], 1e-5)
    hops = np.array([2 * (row["count"] - 1) for row in points])
    sent = np.array([2 * (row["count"] - 1) / row["count"] * row["bytes"] for row in points])
    found, *_ = np.linalg.lstsq(
        np.stack([hops, sent], 1) / measured_seconds[:, None], np.ones(len(points))
    )
    if min(found) <= 0:  # one of both is too small to be seen beside the other
        hop, byte = (
            np.sum(x / measured_seconds) / np.sum((x / measured_seconds) ** 2) for x in (hops, sent)
        )
        squared_errors = [
            np.sum((fit * x / measured_seconds - 1) ** 2) for fit, x in ((hop, hops), (byte, sent))
        ]
        found = (hop, 1e-15) if squared_errors[0] < squared_errors[1] else (1e-9, byte)
    return float(found[0]), float(1 / found[1])


def print_fit(points, latency, bandwidth):
    """Prints the constants of the fit, and its error for each measurement."""
    ratios = []
    for row in points:
        predicted = row["alone"] + all_reduce_seconds(
            row["count"], row["bytes"], latency, bandwidth
        )
        ratios.append(predicted / row["seconds"])
    print(
        f"\nfitted: {1e6 * latency:.0f} us per hop, {bandwidth / 1e6:.0f} MB/s; predicted steps are"
        f" {min(ratios):.2f} to {max(ratios):.2f} of those measured"
    )


def print_predictions(alone, latency, bandwidth):
    """Prints the predicted step times of more workers, each on its own processors."""
    print("\nms per step by the fit, with processors of their own (fraction of compute)")
    print(f"{'model':<12}" + "".join(f"{count:>14}" for count in PREDICTED_WORKERS))
    for row in alone:
        cells = []
        for count in PREDICTED_WORKERS:
            total = row["alone"] + all_reduce_seconds(count, row["bytes"], latency, bandwidth)
            cells.append(f"{1e3 * total:.1f} ({row['alone'] / total:.0%})")
        print(f"{row['model']:<12}" + "".join(f"{cell:>14}" for cell in cells))


def run_workers(args, count):
    """Runs some workers on this machine; returns the rows of the first one."""
    addresses = [f"localhost:{port}" for port in free_ports(count)]
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "rows.json"
        command = [sys.executable, __file__, "--results", str(found), "--batch", str(args.batch)]
        command += ["--steps", str(args.steps), "--models", *args.models]
        processes = []
        for index in range(count):
            task = {"type": "worker", "index": index}
            tf_config_json = json.dumps({"cluster": {"worker": addresses}, "task": task})
            environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
            environment |= {"TF_CONFIG": tf_config_json} if count > 1 else {}
            environment["PYTHONPATH"] = os.pathsep.join(
                [str(Path(__file__).parent.parent), *sys.path]
            )
            processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL))
        try:
            if [worker.wait(timeout=1200) for worker in processes] != [0] * count:
                sys.exit(f"a worker of {count} failed")
        finally:
            for worker in processes:
                worker.kill()
        return json.loads(found.read_text())


def free_ports(count):
    """Returns free ports of this machine."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


def run_worker(args):
    """Runs the steps of one worker; the first one writes the times."""
    import tensorflow as tf

    tf_config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    strategy = tf.distribute.get_strategy()
    if tf_config:
        ring = tf.distribute.experimental.CommunicationImplementation.RING
        options = tf.distribute.experimental.CommunicationOptions(implementation=ring)
        strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    rows = []
    for name in args.models:
        times, size = {}, 0
        for kind in KINDS:
            step, size = make_train_step(strategy, name, kind, args.batch)
            times[kind] = median_seconds(step, args.steps)
        for kind in KINDS:
            sent = size // 2 if kind == "bfloat16" else size
            facts = {"model": name, "count": strategy.num_replicas_in_sync, "kind": kind}
            facts |= {"bytes": sent, "seconds": times[kind], "alone": times["no sum"]}
            rows.append(facts)
    if not tf_config or tf_config["task"]["index"] == 0:
        Path(args.results).write_text(json.dumps(rows))


def make_train_step(strategy, name, kind, batch):
    """Returns the training step of a model, and the bytes of its gradients."""
    import keras
    import tensorflow as tf

    import zoo
    from tasks.engine import optimize

    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = zoo.build(name)
        rounded = kind if kind == "bfloat16" else "none"
        optimizer = optimize.create_optimizer("momentum", 1e-3, compression=rounded)
        optimizer.build(model.trainable_variables)
    if kind == "no sum":
        optimizer._sums = list  # without the all-reduce
    random = np.random.default_rng(0)
    images = tf.constant(random.integers(0, 256, (batch, *model.input_shape[1:])), tf.float32)
    labels = tf.constant(random.integers(0, model.output_shape[-1], batch))

    def replica_step():
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            loss = tf.reduce_mean(loss) / strategy.num_replicas_in_sync
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    step = tf.function(lambda: strategy.run(replica_step))
    return step, 4 * sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def median_seconds(step, steps):
    """Returns the median seconds of a step."""
    seconds = []
    for number in range(WARMUP_STEPS + steps):
        start = time.perf_counter()
        float(np.asarray(step()))
        if number >= WARMUP_STEPS:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def arithmetic(args):
    """Prints bytes, memory and the compute fraction of a step, from shapes only."""
    import zoo

    head = f"{'model':<16}{'weights':>9}{'MB/step':>9}{'bf16':>8}{'state MB':>10}{'MB/image':>10}"
    ways = [f"{network}, {n}" for network in NETWORKS for n in (8, 64)]
    print(head + "".join(f"{way:>14}" for way in ways))
    for name in args.models or LARGE:
        spec = zoo.spec(name)
        count, maps = spec.parameters, activations(zoo.build(name))
        computing = 3 * spec.flops * args.batch / args.speed  # backwards costs twice forwards
        shares = []
        for bandwidth, latency in NETWORKS.values():
            for n in (8, 64):
                added = [all_reduce_seconds(n, size * count, latency, bandwidth) for size in (4, 2)]
                shares.append("/".join(f"{computing / (computing + x):.0%}" for x in added))
        print(
            f"{name:<16}{count / 1e6:>8.2f}M{4 * count / 1e6:>9.1f}{2 * count / 1e6:>8.1f}"
            f"{STATE * count / 1e6:>10.0f}{4 * maps / 1e6:>10.1f}"
            + "".join(f"{share:>14}" for share in shares)
        )
    print(
        f"\nstate: weights, gradients and AdamW's moments in float32. MB/image: the outputs of all "
        f"layers in float32.\nThe others: compute fraction of a step, with gradients of 32/16 "
        f"bits, {args.batch} examples per worker,\n{args.speed:.0e} FLOP/s each, and 50 us per hop "
        "at 10 Gb/s or 10 us at 100 Gb/s (assumed)."
    )


def activations(model):
    """Returns the number of activations of a model for one image."""
    found = {}
    for layer in model._flatten_layers(include_self=False):
        for node in getattr(layer, "_inbound_nodes", []):
            for x in node.output_tensors:
                found[id(x)] = int(np.prod(x.shape[1:]))
    return sum(found.values())


if __name__ == "__main__":
    main()
