"""Learning rates: too small, too large, found by a range test, decayed and warmed up."""

import zoo
from tasks.advice import lr_find
from tasks.engine import optimize
from tasks.study import Claim, Findings, pictures, study, training
from tasks.study.digits import digits
from zoo.lazy import keras, np


def trained(rate, data, steps, seed, every=0):
    """Returns the curve of a perceptron that starts from the same weights at every call."""
    keras.utils.set_random_seed(seed)
    optimizer = keras.optimizers.SGD(rate)
    model = zoo.build("mlp", widths=(64, 64))
    return training.train(model, *data, steps=steps, optimizer=optimizer, seed=seed, every=every)


def quadratic(rate, steps=100):
    """Returns the size of a weight of 1 after steps on a parabola of curvature 1."""
    weight = keras.Variable(1.0)
    optimizer = keras.optimizers.SGD(rate)
    for _ in range(steps):
        optimizer.apply([weight.value], [weight])
    return abs(float(weight))


def distance(shape, steps, seed, weights=1_000):
    """Returns the root mean square distance from a minimum under noise, to about 2 percent."""
    rng, position = np.random.default_rng(seed), keras.Variable(np.ones(weights))
    optimizer = keras.optimizers.SGD(optimize.create_schedule(shape, 0.2, steps=steps))
    for _ in range(steps):
        optimizer.apply([position.value + rng.normal(size=weights).astype("float32")], [position])
    return float(np.sqrt(np.mean(position.numpy() ** 2)))


def draw(curve, start):
    """Returns a picture of the losses of a run, up to those of a guess and above."""
    drawn, axes = pictures.figure()
    axes.plot(curve.steps, np.nan_to_num(curve.losses, nan=1e3).clip(1e-3, 1e3))
    axes.axhline(start, linestyle="--", color=pictures.GREY)
    axes.set(yscale="log", ylim=(0.01, 100), xlabel="step", ylabel="training loss")
    return pictures.svg(drawn)


def schedules(data, steps, seed):
    """Returns a figure of schedules, and the last and the highest early loss of each."""
    tails, early = {}, {}
    plans = {"constant": ("constant", 0, 0.05), "cosine": ("cosine", 0, 0.05),
             "from 1": ("cosine", 0, 1.0), "1 after warm-up": ("cosine", steps // 2, 1.0),
             }  # fmt: skip
    drawn, (left, right) = pictures.figure(2, width=9, height=3.6)
    for name, (shape, warm, peak) in plans.items():
        schedule = optimize.create_schedule(shape, peak, steps=steps, warmup_steps=warm)
        curve = trained(schedule, data, steps, seed, every=max(1, steps // 50))
        values = np.nan_to_num(curve.losses, nan=1e3).clip(1e-4, 1e3)
        tails[name], early[name] = values[-5:].mean(), values[: len(values) // 5].max()
        left.plot(curve.steps, [float(schedule(int(step) - 1)) for step in curve.steps], label=name)
        right.plot(curve.steps, values)
    left.set(xlabel="step", ylabel="learning rate", yscale="log", ylim=(1e-3, 2))
    right.set(xlabel="step", ylabel="training loss", yscale="log")
    left.legend()
    return drawn, tails, early


@study(9, "How large should the learning rate be, and should it change?")
def run(seed: int = 0, steps: int = 400, rates: int = 5):
    """A rate that is too small wastes steps; above 2 / curvature every step overshoots further. A
    range test raises the rate until the loss rises, which shows the limit in one short run. A rate
    that decays settles into a minimum, and warm-up avoids the large steps of the start."""
    data = digits(1_000, seed, shift=0.5, noise=10.0)
    start = np.log(10)  # the loss of equal probabilities
    grid = np.geomspace(1e-4, 10, rates)
    drawn, axes = pictures.figure()
    final, shown = [], {}
    for rate in training.progress(grid, "rates"):
        curve = trained(rate, data, steps, seed, every=max(1, steps // 40))
        tail = curve.losses[-max(1, len(curve.losses) // 10) :].mean()
        final.append(float(np.nan_to_num(tail, nan=1e3, posinf=1e3)))
        shown[f"{float(f'{rate:.1g}'):g}"] = draw(curve, start)

    rising = np.geomspace(1e-3, 10, 150)
    losses = trained(optimize.schedules.Schedule(rising), data, 150, seed, every=1).losses
    found = lr_find.summarize(rising, [x for x in losses if np.isfinite(x)])
    above = float(np.nan_to_num(trained(10 * found.lowest, data, steps, seed).losses[-1], nan=1e3))
    axes.plot(found.rates, np.clip(found.losses, 0, 10), alpha=0.4)
    axes.plot(found.rates, np.clip(found.smoothed, 0, 10), label="range test, smoothed")
    axes.plot(grid, np.clip(final, 0, 10), "s--", label=f"after {steps} steps at one rate")
    axes.axvline(found.lowest, color=pictures.GREY, label=f"lowest: {found.lowest:.2g}")
    axes.set(xscale="log", ylim=(0, 10), xlabel="learning rate", ylabel="loss")
    axes.legend()

    drawn_plans, tails, early = schedules(data, steps, seed)
    steady, decayed = (distance(shape, steps, seed) for shape in ("constant", "cosine"))
    return Findings(
        claims=[
            Claim("On a parabola of curvature 1 a rate of 1.9 converges and one of 2.1 does not.",
                  quadratic(1.9) < 1e-3 and quadratic(2.1) > 1e3,
                  f"{quadratic(1.9):.0e} and {quadratic(2.1):.0e} of the start"),
            Claim("The smallest rate hardly learns and the largest does not.",
                  final[0] > 0.7 * start and final[-1] > 0.7 * start and min(final) < 0.5 * start,
                  f"loss {final[0]:.2f} and {final[-1]:.2f}, at best {min(final):.2f}"),
            Claim("Ten times the rate at which the range test has its lowest loss does not train.",
                  above > 0.7 * start, f"loss {above:.3g} at {10 * found.lowest:.2g}"),
            Claim("Noisy gradients keep weights sqrt(0.2 / 1.8) = 0.33 from the minimum of a "
                  "parabola at a rate of 0.2; with decay they end less than half as far.",
                  abs(steady - 1 / 3) < 4 * 0.02 / 3 and decayed < steady / 2,
                  f"{steady:.2f} and {decayed:.2f} after {steps} steps"),
            Claim("At a rate of 1 the loss jumps at the start; warm-up avoids the jump.",
                  early["1 after warm-up"] < early["from 1"] - 0.5,
                  f"at most {early['1 after warm-up']:.1f} against {early['from 1']:.1f} in the "
                  "first fifth"),
        ],
        pictures=[
            ("One rate", pictures.slider(shown, "learning rate"),
             "The dashed line is a guess with equal probabilities. A line that ends at the top "
             "left the numbers that float32 can hold."),
            ("Range test", pictures.svg(drawn), "Each step has a larger rate than the one before."),
            ("Schedules", pictures.svg(drawn_plans),
             f"Both of the lower rates learn; decay ends at a loss of {tails['cosine']:.3f}, a "
             f"constant rate at {tails['constant']:.3f}: decay pays where the constant rate is too "
             "large to settle, and wastes steps where it is not."),
        ],
        next_steps=["zoo lr-find classification --model lenet5: the range test of a task",
                    "zoo train classification --schedule cosine --warmup-epochs 1: both"],
        references=["Smith, 2017: Cyclical learning rates for training neural networks",
                    "Goyal et al., 2017: Accurate, large minibatch SGD (warm-up)",
                    "Loshchilov & Hutter, 2017: SGDR (cosine); tasks/advice/lr_find.py"],
    )  # fmt: skip
