"""Gradient checking: which differences to take, and how a wrong gradient is found."""

import zoo
from tasks.advice import gradcheck
from tasks.study import Claim, Findings, pictures, study
from zoo.lazy import keras, np, tf

STEPS = tuple(10.0**power for power in range(-13, 0))


def function(x):
    """Returns a smooth function of one number."""
    return np.exp(np.sin(3 * x))


def differences(dtype, x, kind):
    """Returns the root mean square relative error of a difference quotient for each of `STEPS`."""
    exact, errors, x = 3 * np.cos(3 * x) * function(x), [], x.astype(dtype)
    for step in np.array(STEPS, dtype):
        up, down = function(x + step), function(x - step if kind == "central" else x)
        quotient = (up - down) / (2 * step if kind == "central" else step)
        errors.append(np.sqrt(np.mean((quotient.astype("float64") / exact - 1) ** 2)))
    return np.array(errors)


def network_with_error(position, layers, slip):
    """Returns a network in which one layer doubles numbers but its gradient is off by a factor."""

    @tf.custom_gradient
    def double(x):
        return 2 * x, lambda upstream: 2 * slip * upstream

    class Double(keras.layers.Layer):
        """Doubles its inputs."""

        def call(self, x):
            """Returns twice the inputs."""
            return double(x)

    x = image = keras.Input((6,))
    for number in range(layers):
        x = keras.layers.Dense(5, activation="tanh", name=f"dense{number}")(x)
        x = Double()(x) if number == position else x
    return keras.Model(image, keras.layers.Dense(2, name="logits")(x))


def draw(curves):
    """Returns a figure of errors by step."""
    drawn, axes = pictures.figure()
    for name, errors in curves.items():
        axes.plot(STEPS, np.maximum(errors, 1e-14), "o-", label=name)
    axes.set(xscale="log", yscale="log", xlabel="step", ylabel="relative error", ylim=(1e-13, 30))
    axes.legend()
    return drawn


def draw_errors(checks):
    """Returns a figure of the relative error of each tensor, with the tolerance."""
    names = [check.name for check in checks]
    errors = [check.error for check in checks]
    figure, axes = pictures.figure(height=0.28 * len(names) + 0.9)
    colors = [pictures.COLORS[4 if not check.right else 2] for check in checks]
    axes.barh(names[::-1], np.maximum(errors, 1e-14)[::-1], color=colors[::-1])
    axes.axvline(gradcheck.TOLERANCE, linestyle="--", color=pictures.GREY)
    axes.set(xscale="log", xlabel="relative error", xlim=(1e-14, 1))
    return figure


@study(7, "How can a gradient be checked, and a wrong one be found?")
def run(seed: int = 0, layers: int = 4, slip: float = 1.01):
    """Central differences have an error of the step squared, until rounding takes over; so there is
    a best step, and float64 is needed. A layer with a wrong gradient spoils those of all weights
    before it and of none after it, which shows where it is."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.1, 0.4, 50)
    curves = {
        "one-sided, float64": differences("float64", x, "one-sided"),
        "central, float64": differences("float64", x, "central"),
        "central, float32": differences("float32", x, "central"),
    }
    drawn = draw(curves)
    best = {name: STEPS[int(errors.argmin())] for name, errors in curves.items()}
    order = {name: float(np.log10(curves[name][-3] / curves[name][-4])) for name in curves}
    middle = layers // 2
    inputs = rng.normal(size=(4, 6))
    checks, right = (
        gradcheck.gradcheck(network_with_error(middle, layers, factor), inputs, seed=seed)
        for factor in (slip, 1.0)
    )
    error_figure = draw_errors(checks)
    affected = {f"dense{n}/{part}" for n in range(middle + 1) for part in ("kernel", "bias")}
    kink = gradcheck.STEP / 2  # of a ReLU, within the step
    relu = (max(kink + gradcheck.STEP, 0) - max(kink - gradcheck.STEP, 0)) / (2 * gradcheck.STEP)
    mlp = gradcheck.gradcheck(zoo.build("mlp", widths=(8,)), seed=seed)
    return Findings(
        claims=[
            # Between steps of 1e-4 and 1e-3, where rounding is far smaller than the error.
            Claim("The error of a central difference is of second order, of a one-sided of first.",
                  abs(order["central, float64"] - 2) < 0.1 > abs(order["one-sided, float64"] - 1),
                  f"{order['central, float64']:.2f} and {order['one-sided, float64']:.2f}"),
            Claim("The best central step is near the cube root of the rounding error, 6e-6.",
                  1e-7 < best["central, float64"] < 1e-4, f"{best['central, float64']:.0e}"),
            Claim("In float32 no step is within 1e-5, the tolerance of zoo gradcheck.",
                  curves["central, float32"].min() > 1e-5 > curves["central, float64"].min(),
                  f"{curves['central, float32'].min():.0e}"),
            Claim(f"A gradient that is off by a factor of {slip:g} is found in all weights before "
                  "it and in none after it.",
                  {c.name for c in checks if not c.right} == affected | {"input 0"},
                  ", ".join(c.name for c in checks if not c.right)),
            Claim("Without it all gradients are right; so are those of the zoo's perceptron.",
                  not gradcheck.wrong(right + mlp), f"largest error "
                  f"{max(check.error for check in right + mlp):.0e}"),
            Claim("Across the kink of a ReLU a difference is wrong although the gradient is right.",
                  abs(relu - 0.75) < 1e-9, f"{relu:.2f} instead of 1"),
        ],
        pictures=[
            ("Which step?", pictures.svg(drawn),
             "Right of the minimum the error of the formula, left of it the rounding error."),
            ("A planted error", pictures.svg(error_figure),
             f"Layer {middle} is followed by one with a wrong gradient. Dashed: the tolerance."),
        ],
        next_steps=["zoo gradcheck lenet5: each tensor of a network", "--layers 8: where is it?",
                    "--slip 1.00001: is the error still found?"],
        references=["Baydin et al., 2018: Automatic differentiation in machine learning: a survey",
                    "Press et al., 2007: Numerical recipes, section 5.7",
                    "tasks/advice/gradcheck.py"],
    )  # fmt: skip
