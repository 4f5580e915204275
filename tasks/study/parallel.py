"""Data parallelism: the same step on one and on two devices; batch size against learning rate."""

import json
import subprocess

import zoo
from tasks.distributed import replicas, strategies
from tasks.distributed.subprocess_command import python_command
from tasks.study import Claim, Findings, pictures, study
from tasks.study.digits import digits
from tasks.study.training import progress
from zoo.errors import UsageError
from zoo.lazy import keras, np, tf

MODELS = {  # whether there is BatchNorm, and whether it is synchronized
    "plain": (False, False),
    "BatchNorm": (True, False),
    "synchronized BatchNorm": (True, True),
}
WIDTHS, SIZES, RATES = (32,), (8, 16, 32, 64, 128), [2.0**power for power in range(-7, 2)]


def two_devices(seed, batch):
    """Prints as JSON how much a step on two virtual CPUs differs from one on a single CPU.

    Devices cannot be divided once TensorFlow has started, so this runs in a process of its own.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    (x, y), found = digits(batch, seed), {}
    for name, (norm, together) in MODELS.items():
        changes = []
        for kind in ("one", "mirrored"):
            keras.utils.set_random_seed(seed)
            with strategies.create_strategy(kind).scope():
                model = zoo.build("mlp", widths=WIDTHS, batch_norm=norm)
                replicas.set_sync_batch_norm(model, together)
                loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
                optimizer = replicas.distributed_optimizer(keras.optimizers.SGD)(1.0)
                model.compile(optimizer, loss, jit_compile=False)
            start = [w.numpy() for w in model.trainable_variables]
            model.fit(tf.data.Dataset.from_tensors((x, y)), verbose=0, shuffle=False)
            pairs = zip(model.trainable_variables, start, strict=True)
            changes.append(np.concatenate([np.ravel(end.numpy() - first) for end, first in pairs]))
        found[name] = float(np.linalg.norm(np.subtract(*changes)) / np.linalg.norm(changes[0]))
    print(json.dumps(found))


def step_differences(seed, batch):
    """Returns the relative differences of a step on two devices, by name of the model."""
    code = f"from tasks.study import parallel; parallel.two_devices({seed}, {batch})"
    done = subprocess.run(python_command(code), capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"no step on two devices: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def losses_by_rate(examples, epochs, seed):
    """Returns the test loss after equal epochs, for each of `SIZES` and of `RATES`."""
    (x, y), test = digits(examples, seed), digits(400, seed + 1)
    keras.utils.set_random_seed(seed)
    model = zoo.build("mlp", widths=WIDTHS)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(), loss, jit_compile=False)
    start, found = model.get_weights(), np.zeros((len(SIZES), len(RATES)))
    for row, size in enumerate(progress(SIZES, "batch sizes")):
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(size).cache()
        for column, rate in enumerate(RATES):
            model.set_weights(start)
            model.optimizer.learning_rate.assign(rate)
            model.fit(data, epochs=epochs, verbose=0, shuffle=False)
            found[row, column] = np.fmin(loss(test[1], model(test[0])), 10.0)  # also of NaN
    return found


@study(29, "Does training on two devices change the result, and what changes with the batch size?")
def run(seed: int = 0, batch: int = 64, examples: int = 1_024, epochs: int = 3):
    """Each device computes the gradient of its half of the batch, and the mean of both is that of
    the whole batch: the step is the same. BatchNorm is the exception, unless its statistics are
    synchronized. More devices usually mean larger batches and fewer steps per epoch. A rate that
    grows in proportion makes up for that, as one step then goes about as far as several small
    ones: the rule of linear scaling. Beyond a limit, soon reached here, training diverges."""
    differences = step_differences(seed, max(4, batch // 2 * 2))
    losses = losses_by_rate(examples, epochs, seed)
    lines = {f"batches of {n}": (RATES, row) for n, row in zip(SIZES, losses, strict=True)}
    axis = {"ylabel": "test loss after equal epochs"}
    valley = pictures.curves(lines, xscale="log", xlabel="learning rate", ylim=(0, 3), **axis)
    rows, shown = np.arange(len(SIZES)), {}
    ticks = {"xticks": rows, "xticklabels": SIZES, "ylim": (1, 3)}
    for column, rate in enumerate(RATES[: len(RATES) - len(SIZES) + 1]):
        rules = {"the same rate": losses[:, column], "linear": losses[rows, column + rows]}
        lines = {name: (rows, row) for name, row in rules.items()}
        shown[f"1/{1 / rate:g}"] = pictures.curves(lines, **ticks, xlabel="batch size", **axis)
    same, linear = losses[3, 0] - losses[0, 0], losses[3, 3] - losses[0, 0]
    bars = pictures.bars({name: max(value, 1e-9) for name, value in differences.items()},
                         xscale="log", xlabel="difference, relative to the step")  # fmt: skip
    best = [RATES[index] for index in losses.argmin(1)]
    return Findings(
        claims=[
            # float32 sums in another order; a single weight has seven digits.
            Claim("A step on two devices equals that on one.", differences["plain"] < 1e-4,
                  f"relative difference {differences['plain']:.0e}"),
            Claim("With BatchNorm it does not, unless the statistics are synchronized.",
                  differences["BatchNorm"] > 1e-2
                  and differences["synchronized BatchNorm"] < 1e-3,
                  " and ".join(f"{differences[name]:.0e}" for name in list(MODELS)[1:])),
            Claim("After equal epochs batches of 128 end with a larger loss than batches of 8, "
                  "each at its best learning rate: they take fewer steps.",
                  losses[-1].min() > losses[0].min(),
                  f"{losses[-1].min():.2f} at {best[-1]:g}, {losses[0].min():.2f} at {best[0]:g}"),
            Claim("From a small rate, 1/128 for batches of 8, linear scaling to batches of 64 "
                  "changes the loss by less than half of what the same rate does.",
                  abs(linear) < abs(same) / 2, f"by {linear:.2f} against {same:.2f}"),
            Claim("The rule has a limit: from the best rate of batches of 8 it leads above the "
                  "best rate of batches of 128.", 16 * best[0] > best[-1],
                  f"to {16 * best[0]:g}; the best is {best[-1]:g}"),
        ],
        pictures=[
            ("Batch size and learning rate", valley,
             "Where is the best rate of each batch size, and at which rate does training diverge?"),
            ("The rule of linear scaling", pictures.slider(shown, "rate of batches of 8"),
             "The same rate for all batch sizes, or one in proportion. Where is it level?"),
            ("The step on two devices", bars, "Rounding, or a difference?"),
        ],
        next_steps=["--epochs 10: do large batches catch up?",
                    "zoo train classification --strategy mirrored: all GPUs of a machine"],
        references=["Goyal et al., 2017: Accurate, large minibatch SGD",
                    "Ioffe & Szegedy, 2015 (BatchNorm)", "tasks/distributed/replicas.py"],
    )  # fmt: skip
