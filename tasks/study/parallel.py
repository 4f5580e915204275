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
WIDTHS = (32,)


def two_devices(seed, batch):
    """Prints as JSON how much a step on two virtual CPUs differs from one on a single CPU.

    Devices cannot be divided once TensorFlow has started, so this runs in a process of its own.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    x, y = digits(batch, seed)
    found = {}
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
            data = tf.data.Dataset.from_tensors((x, y))
            model.fit(data, verbose=0, shuffle=False)
            end = [w.numpy() for w in model.trainable_variables]
            changes.append(np.concatenate([(b - a).ravel() for a, b in zip(start, end)]))  # noqa: B905
        one, two = changes
        found[name] = float(np.linalg.norm(two - one) / np.linalg.norm(one))
    print(json.dumps(found))


def step_differences(seed, batch):
    """Returns the relative differences of a step on two devices, by name of the model."""
    code = f"from tasks.study import parallel; parallel.two_devices({seed}, {batch})"
    done = subprocess.run(python_command(code), capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"no step on two devices: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def losses_by_rate(sizes, rates, examples, epochs, seed):
    """Returns the test loss after equal epochs, `(sizes, rates)`."""
    (x, y), test = digits(examples, seed), digits(400, seed + 1)
    keras.utils.set_random_seed(seed)
    model = zoo.build("mlp", widths=WIDTHS)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(), loss, jit_compile=False)
    start, found = model.get_weights(), np.zeros((len(sizes), len(rates)))
    for row, size in enumerate(progress(sizes, "batch sizes")):
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(size).cache()
        for column, rate in enumerate(rates):
            model.set_weights(start)
            model.optimizer.learning_rate.assign(rate)
            model.fit(data, epochs=epochs, verbose=0, shuffle=False)
            value = float(np.mean(loss(test[1], model(test[0]))))
            found[row, column] = min(value, 10.0) if np.isfinite(value) else 10.0
    return found


@study(29, "Does training on two devices change the result, and what changes with the batch size?")
def run(seed: int = 0, batch: int = 64, examples: int = 1_024, epochs: int = 3):
    """Each device computes the gradient of its half of the batch, and the mean of both is that of
    the whole batch: the step is the same. BatchNorm is the exception, as each device has its own
    statistics, unless they are synchronized. More devices usually mean larger batches, so fewer
    steps per epoch; a larger learning rate makes up for that only where training still converges:
    the rule to scale it with the batch has a limit, which a short training reaches early."""
    differences = step_differences(seed, max(4, batch // 2 * 2))
    sizes, rates = (8, 32, 128), [2.0**power for power in range(-7, 2)]
    losses = losses_by_rate(sizes, rates, examples, epochs, seed)
    lines = {f"batches of {n}": (rates, row) for n, row in zip(sizes, losses, strict=True)}
    valley = pictures.curves(lines, xscale="log", xlabel="learning rate", ylim=(0, 3),
                             ylabel="test loss after equal epochs")  # fmt: skip
    lengths = {name: max(value, 1e-9) for name, value in differences.items()}
    bars = pictures.bars(lengths, xscale="log", xlabel="difference, relative to the step")
    best = [rates[index] for index in losses.argmin(1)]
    return Findings(
        claims=[
            # float32 sums in another order; a single weight has seven digits.
            Claim("A step on two devices equals that on one.", differences["plain"] < 1e-4,
                  f"relative difference {differences['plain']:.0e}"),
            Claim("With BatchNorm it does not.", differences["BatchNorm"] > 1e-2,
                  f"{differences['BatchNorm']:.0e}"),
            Claim("With synchronized statistics it does again.",
                  differences["synchronized BatchNorm"] < 1e-3,
                  f"{differences['synchronized BatchNorm']:.0e}"),
            Claim("After equal epochs batches of 128 end with a larger loss than batches of 8, "
                  "each at its best learning rate: they take fewer steps.",
                  losses[2].min() > losses[0].min(),
                  f"{losses[2].min():.2f} at {best[2]:g}, {losses[0].min():.2f} at {best[0]:g}"),
        ],
        pictures=[
            ("Batch size and learning rate", valley,
             "Where is the best rate of each batch size, and at which rate does training diverge?"),
            ("The step on two devices", bars, "Rounding, or a difference?"),
        ],
        next_steps=["--epochs 10: do large batches catch up?",
                    "zoo train classification --strategy mirrored --scale-learning-rate linear"],
        references=["Goyal et al., 2017: Accurate, large minibatch SGD",
                    "Ioffe & Szegedy, 2015 (BatchNorm)", "tasks/distributed/replicas.py"],
    )  # fmt: skip
