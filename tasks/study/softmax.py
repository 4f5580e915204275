"""Softmax with temperature."""

from tasks.study import Claim, Findings, pictures, study
from zoo.lazy import np


def softmax(logits, temperature=1.0):
    """Returns probabilities, stable for logits of any size."""
    scaled = np.asarray(logits, "float64") / temperature
    powers = np.exp(scaled - scaled.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@study(3, "How does softmax turn scores into probabilities?")
def run(seed: int = 0, samples: int = 20_000):
    """Softmax is a smooth maximum. Temperature moves it between the maximum and a uniform
    distribution, and sampling from it picks each class as often as its probability says."""
    logits = np.array([2.0, 1.0, 0.2, -1.0])
    temperatures = (0.1, 0.3, 1.0, 3.0, 10.0)
    bars = {}
    for temperature in temperatures:
        drawn, axes = pictures.figure()
        axes.bar([f"logit {value:g}" for value in logits], softmax(logits, temperature))
        axes.set(ylim=(0, 1), ylabel="probability")
        bars[f"{temperature:g}"] = pictures.svg(drawn)

    entropies = [-(p * np.log(p)).sum() for p in (softmax(logits, t) for t in temperatures)]
    rng = np.random.default_rng(seed)
    gumbel = (logits + rng.gumbel(size=(samples, len(logits)))).argmax(1)
    frequencies = np.bincount(gumbel, minlength=len(logits)) / samples
    error = np.abs(frequencies - softmax(logits)).max()
    bound = 4 * np.sqrt(0.25 / samples)  # four standard errors of a frequency
    shifted = np.abs(softmax(logits + 1000) - softmax(logits)).max()

    drawn, axes = pictures.figure()
    axes.plot(temperatures, entropies, "o-")
    axes.axhline(np.log(len(logits)), linestyle="--", color=pictures.GREY)
    axes.set(xscale="log", xlabel="temperature", ylabel="entropy (nats)")
    return Findings(
        claims=[
            Claim("Adding a constant to all logits changes nothing.", shifted < 1e-12,
                  f"largest difference {shifted:.1e}"),
            Claim("At low temperature softmax is the maximum.",
                  softmax(logits, 0.01)[0] > 1 - 1e-12, f"{softmax(logits, 0.01)[0]:.6f}"),
            Claim("Entropy grows with temperature, up to that of a uniform distribution.",
                  bool(np.all(np.diff(entropies) > 0)) and entropies[-1] < np.log(len(logits)),
                  f"{entropies[0]:.3f} to {entropies[-1]:.3f} of {np.log(len(logits)):.3f} nats"),
            Claim("The argmax of logits plus Gumbel noise is a sample from softmax.", error < bound,
                  f"largest error of a frequency {error:.4f}, bound {bound:.4f}"),
        ],
        pictures=[
            ("Temperature", pictures.slider(bars, "temperature"),
             "The order of the classes never changes; only how much the largest logit wins."),
            ("Entropy", pictures.svg(drawn), "The dashed line is a uniform distribution."),
        ],
        next_steps=["--samples 200: does the last claim still hold, and why does its bound grow?",
                    "What do logits of equal size give at each temperature?"],
        references=["Bridle, 1990: softmax", "Maddison et al., 2014: A* sampling (Gumbel-max)",
                    "zoo/surgery, `keras.ops.softmax`: where the kit uses it"],
    )  # fmt: skip
