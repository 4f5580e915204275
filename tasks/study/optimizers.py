"""Optimizers on a ravine, on a saddle and on a network, and Keras's updates by their formulas."""

import zoo
from tasks.study import Claim, Findings, optimizer_formulas, pictures, study, training
from tasks.study.digits import digits
from zoo.lazy import keras, np

MOMENTUM = optimizer_formulas.MOMENTUM
RATES = {  # Keras's class and options, and a rate for the ravine and the saddle, and the network
    "SGD": ("SGD", {}, 0.039, 0.1),
    "momentum": ("SGD", {"momentum": MOMENTUM}, 0.01, 0.03),
    "Nesterov": ("SGD", {"momentum": MOMENTUM, "nesterov": True}, 0.01, 0.03),
    "AdaGrad": ("Adagrad", {}, 0.5, 0.03),
    "RMSprop": ("RMSprop", {}, 0.05, 0.003),
    "Adam": ("Adam", {}, 0.2, 0.003),
    "AdamW": ("AdamW", {}, 0.2, 0.003),
    "Lion": ("Lion", {}, 0.05, 0.0005),
    "Muon": ("Muon", {}, 0.2, 0.01),
}
SURFACES = {  # curvature along each axis, start, and what is drawn
    "ravine": ((1.0, 50.0), (-4.0, 1.0), ((-4.5, 1.5), (-1.5, 1.5))),
    "saddle": ((1.0, -1.0), (1.0, 1e-4), ((-1.2, 1.2), (-1.2, 1.2))),
}


def make(name, rate):
    """Returns the Keras optimizer of a name."""
    kind, options, _, _ = RATES[name]
    return getattr(keras.optimizers, kind)(rate, **options)


def descend(name, gradient, start, steps):
    """Returns the points that an optimizer visits, `(steps + 1, 2)`, as rows: Muon is for matrices,
    and treats vectors as Adam does."""
    point, optimizer = keras.Variable(np.array([start], "float32")), make(name, RATES[name][2])
    optimizer.build([point])
    path = [point.numpy()]
    for _ in range(steps):
        optimizer.apply([keras.ops.convert_to_tensor(gradient(path[-1]))])
        path.append(point.numpy())
    return np.array(path)[:, 0]


def formula_error(name, path, curvature, rate):
    """Returns how far steps are off the formula, given the points before, of the largest step."""
    state, worst = {}, 0.0
    update = getattr(optimizer_formulas, name.lower())
    for t, p in enumerate(path[:-1].astype("float64"), start=1):
        change = update(p[None], np.array(curvature) * p[None], t, rate, state)[0]
        worst = max(worst, np.abs(p + change - path[t]).max())
    return worst / np.abs(np.diff(path, axis=0)).max()


def race(surface, paths):
    """Returns an animated picture of paths on a surface."""
    curvature, _, (xlim, ylim) = SURFACES[surface]
    drawn, axes = pictures.figure(height=4)
    x, y = np.meshgrid(np.linspace(*xlim, 80), np.linspace(*ylim, 60))
    z = (curvature[0] * x**2 + curvature[1] * y**2) / 2
    axes.contour(x, y, np.sign(z) * np.sqrt(np.abs(z)), 14, alpha=0.35, linewidths=0.7)
    axes.set(xlim=xlim, ylim=ylim)
    return pictures.animated_paths(drawn, axes, paths)


def trained(name, data, steps, seed):
    """Returns the curve of a perceptron on digits, from the same weights for each optimizer."""
    keras.utils.set_random_seed(seed)
    model = zoo.build("mlp", widths=(32,))
    return training.train(model, *data, steps=steps, optimizer=make(name, RATES[name][3]),
                          seed=seed, every=max(1, steps // 20))  # fmt: skip


@study(8, "What do momentum, adaptive rates and signs add to gradient descent?")
def run(seed: int = 0, steps: int = 120, network_steps: int = 300):
    """In a ravine the largest curvature limits the learning rate of plain gradient descent, so it
    crawls along the bottom. Momentum adds up the steps that agree; adaptive methods scale each
    coordinate; Lion and Muon step equally far whatever the size of the gradient."""
    paths = {
        surface: {n: descend(n, lambda p, c=c: np.float32(c) * p, start, steps) for n in RATES}
        for surface, (c, start, _) in SURFACES.items()
    }
    apart = max(formula_error(n, path, SURFACES[surface][0], RATES[n][2])
                for surface, each in paths.items() for n, path in each.items())  # fmt: skip
    losses = {n: 0.5 * (p[:, 0] ** 2 + 50 * p[:, 1] ** 2) for n, p in paths["ravine"].items()}
    drawn, (left, right) = pictures.figure(2, width=9.4, height=4)
    for name, values in losses.items():
        left.plot(np.maximum(values, 1e-8), label=name)
    data, curves = digits(1_000, seed), {}
    for name in training.progress(RATES, "network"):
        curves[name] = trained(name, data, network_steps, seed)
        right.plot(curves[name].steps, curves[name].losses)
    left.set(yscale="log", ylabel="loss", xlabel="step in the ravine")
    right.set(xlabel="step of the network", ylim=(0, None))
    drawn.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5)

    constant = descend("momentum", np.ones_like, (0.0, 0.0), 200)
    speeds = np.abs(np.diff(constant[:, 0])) / 0.01
    escape = {n: int(np.argmax(np.append(np.abs(p[:, 1]), 1.0) > 0.5))
              for n, p in paths["saddle"].items()}  # fmt: skip
    area = {n: float(curve.losses.mean()) for n, curve in curves.items()}
    return Findings(
        claims=[
            # float32 rounds positions of about 4 to 5e-7, steps are 1e-2 or more.
            Claim("Each of Keras's nine updates equals its formula in every step.", apart < 1e-3,
                  f"largest difference {apart:.0e} of a step, {steps} steps on two surfaces"),
            Claim("Under a constant gradient momentum speeds up by 1 / (1 - 0.9) = 10.",
                  abs(speeds[-1] - 10) < 0.01, f"{speeds[0]:.2f} at first, {speeds[-1]:.3f} after"),
            Claim("In the ravine momentum ends with a lower loss than SGD at its best rate.",
                  losses["momentum"][-1] < losses["SGD"][-1],
                  f"{losses['momentum'][-1]:.1e} against {losses['SGD'][-1]:.1e}"),
            Claim("Methods that scale gradients leave a saddle sooner than SGD.",
                  max(escape[n] for n in ("RMSprop", "Adam", "AdamW", "Lion")) < escape["SGD"],
                  ", ".join(f"{n} {count}" if count <= steps else f"{n} over {steps}"
                            for n, count in escape.items()) + " steps"),
            Claim("On the network Muon lowers the loss sooner than SGD.",
                  area["Muon"] < 0.9 * area["SGD"],
                  ", ".join(f"{n} {value:.2f}" for n, value in area.items()) + " on average"),
        ],
        pictures=[
            ("The race", pictures.slider({s: race(s, p) for s, p in paths.items()}, "surface"),
             "Dots start at the left of the ravine, and at the right of the saddle, on its ridge."),
            ("Loss", pictures.svg(drawn), "Each has a rate of its own, listed in the code."),
        ],
        next_steps=["Raise the rate of SGD above 2/50 = 0.04: why does it diverge?",
                    "zoo train classification --optimizer lion: as accurate as --optimizer adam?"],
        references=["Polyak, 1964; Nesterov, 1983; Kingma & Ba, 2015 (Adam)",
                    "Chen et al., 2023 (Lion); Jordan, 2024, and Liu et al., 2025 (Muon)",
                    "tasks/study/optimizer_formulas.py; tasks/engine/optimize.py"],
    )  # fmt: skip
