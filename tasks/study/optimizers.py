"""Optimizers on a ravine and on a saddle, and Keras's updates against their formulas."""

from tasks.study import Claim, Findings, pictures, study
from zoo.lazy import keras, np, tf

RATES = {"SGD": 0.039, "momentum": 0.01, "Nesterov": 0.01, "AdaGrad": 0.5, "RMSprop": 0.05,
         "Adam": 0.2, "Lion": 0.05}  # fmt: skip
MOMENTUM = 0.9


def make(name, rate):
    """Returns the Keras optimizer of a name."""
    optimizers = keras.optimizers
    return {
        "SGD": lambda: optimizers.SGD(rate),
        "momentum": lambda: optimizers.SGD(rate, momentum=MOMENTUM),
        "Nesterov": lambda: optimizers.SGD(rate, momentum=MOMENTUM, nesterov=True),
        "AdaGrad": lambda: optimizers.Adagrad(rate),
        "RMSprop": lambda: optimizers.RMSprop(rate),
        "Adam": lambda: optimizers.Adam(rate),
        "Lion": lambda: optimizers.Lion(rate),
    }[name]()


def descend(optimizer, gradient, start, steps):
    """Returns the points that an optimizer visits, `(steps + 1, 2)`."""
    point = keras.Variable(np.array(start, "float32"))
    optimizer.build([point])
    path = [point.numpy()]
    for _ in range(steps):
        optimizer.apply([tf.constant(gradient(path[-1]))])
        path.append(point.numpy())
    return np.array(path)


def ravine(p):
    """Returns the gradient of `(x^2 + 50 y^2) / 2`, whose curvatures differ by a factor of 50."""
    return np.array([1.0, 50.0], "float32") * p


def by_formula(name, gradient, start, rate, steps):
    """Returns the last point of momentum or Adam, computed in NumPy by its formula."""
    p, v, m = np.array(start, "float64"), np.zeros(2), np.zeros(2)
    for t in range(1, steps + 1):
        g = gradient(p)
        if name == "momentum":
            v = MOMENTUM * v - rate * g
            p = p + v
        else:
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            p = p - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-7)
    return p


@study(8, "What do momentum, RMSprop and Adam add to gradient descent?")
def run(seed: int = 0, steps: int = 120):
    """In a ravine the largest curvature limits the learning rate of plain gradient descent, so it
    crawls along the bottom. Momentum adds up the steps that agree; adaptive methods scale each
    coordinate."""
    start = (-4.0, 1.0)
    paths = {n: descend(make(n, r), ravine, start, steps) for n, r in RATES.items()}
    losses = {n: 0.5 * (p[:, 0] ** 2 + 50 * p[:, 1] ** 2) for n, p in paths.items()}
    x, y = np.meshgrid(np.linspace(-4.5, 1.5, 80), np.linspace(-1.5, 1.5, 60))
    shown = {}
    for name, path in paths.items():
        drawn, axes = pictures.figure()
        axes.contour(x, y, np.log(0.5 * (x**2 + 50 * y**2) + 0.1), 12, alpha=0.4)
        axes.plot(path[:, 0], path[:, 1], "o-", markersize=3)
        axes.set(xlim=(-4.5, 1.5), ylim=(-1.5, 1.5))
        shown[name] = pictures.svg(drawn)
    drawn, axes = pictures.figure()
    for name, values in losses.items():
        axes.plot(np.maximum(values, 1e-8), label=name)
    axes.set(yscale="log", xlabel="step", ylabel="loss")
    axes.legend(ncols=2)

    constant = descend(make("momentum", 0.01), lambda p: np.ones(2, "float32"), (0, 0), 200)
    speed = np.abs(constant[-1, 0] - constant[-2, 0]) / 0.01
    saddle = descend(make("SGD", 0.1), lambda p: np.array([p[0], -p[1]]), (1.0, 1e-4), 40)
    noisy = descend(make("Adam", 0.1), lambda p: np.array([p[0], -p[1]]), (1.0, 1e-4), 40)
    apart = max(np.abs(paths[n][-1] - by_formula(key, ravine, start, RATES[n], steps)).max()
                for n, key in (("momentum", "momentum"), ("Adam", "adam")))  # fmt: skip
    return Findings(
        claims=[
            Claim("Keras's momentum and Adam equal their formulas step by step.", apart < 1e-4,
                  f"largest difference {apart:.1e} after {steps} steps"),
            Claim("Under a constant gradient momentum speeds up by 1 / (1 - 0.9) = 10.",
                  abs(speed - 10) < 0.01, f"{speed:.3f}"),
            Claim("In the ravine momentum ends with a lower loss than SGD at its best rate.",
                  losses["momentum"][-1] < losses["SGD"][-1],
                  f"{losses['momentum'][-1]:.1e} against {losses['SGD'][-1]:.1e}"),
            Claim("Near a saddle Adam leaves sooner than SGD, as it scales small gradients up.",
                  abs(noisy[-1, 1]) > 10 * abs(saddle[-1, 1]),
                  f"distance {abs(noisy[-1, 1]):.2f} against {abs(saddle[-1, 1]):.4f}"),
        ],
        pictures=[
            ("Paths", pictures.slider(shown, "optimizer"), "All start at the left."),
            ("Loss", pictures.svg(drawn), "Each has a rate that suits it."),
        ],
        next_steps=["Raise the rate of SGD above 2/50 = 0.04: why does it diverge?",
                    "zoo train classification --optimizer lion"],
        references=["Polyak, 1964; Nesterov, 1983; Kingma & Ba, 2015 (Adam)",
                    "Chen et al., 2023 (Lion)", "keras.optimizers; tasks/engine/optimize.py"],
    )  # fmt: skip
