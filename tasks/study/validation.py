"""Why there are three splits: the winner's curse."""

from tasks.study import Claim, Findings, pictures, study
from zoo.lazy import np


@study(14, "Why are there a training, a validation and a test split?")
def run(seed: int = 0, models: int = 50, images: int = 500, repeats: int = 2_000):
    """Choosing the best of many models by a score makes that score too optimistic for the chosen
    one: it was chosen for its luck, too. A second, untouched split gives the true accuracy."""
    rng = np.random.default_rng(seed)
    counts = sorted({1, 2, 5, 10, 20, models})
    true = np.clip(rng.normal(0.8, 0.01, (repeats, models)), 0, 1)  # models that hardly differ
    first = rng.binomial(images, true) / images  # accuracy on the split that chooses
    second = rng.binomial(images, true) / images  # on an untouched one
    rows = np.arange(repeats)
    promised, kept, best = [], [], []
    for count in counts:
        chosen = first[:, :count].argmax(1)
        promised.append(first[rows, chosen].mean())
        kept.append(second[rows, chosen].mean())
        best.append(true[rows, chosen].mean())
    drawn, axes = pictures.figure()
    axes.plot(counts, promised, "o-", label="on the split that chose")
    axes.plot(counts, kept, "s-", label="on an untouched split")
    axes.plot(counts, best, "--", color=pictures.GREY, label="true accuracy")
    axes.set(xlabel="models to choose from", ylabel="accuracy of the chosen one", xscale="log")
    axes.legend()
    gap, error = promised[-1] - kept[-1], abs(kept[-1] - best[-1])
    noise = np.sqrt(0.8 * 0.2 / images)
    bound = 4 * noise / np.sqrt(repeats)
    return Findings(
        claims=[
            Claim(f"The best of {models} models promises more than it keeps, by over one standard "
                  "error of the split.", gap > noise, f"{gap:.3f}, standard error {noise:.3f}"),
            Claim("The untouched split is unbiased.", error < bound, f"off by {error:.4f}"),
            Claim("With one model there is nothing to choose and no bias.",
                  abs(promised[0] - best[0]) < bound, f"off by {abs(promised[0] - best[0]):.4f}"),
        ],
        pictures=[("What choosing promises", pictures.svg(drawn),
                   "The gap between the upper lines is what a paper claims too much that tunes on "
                   "its test split.")],
        next_steps=["--images 50000: how large must a split be for the gap to be harmless?",
                    "--models 1000: how much does the gap grow?",
                    "zoo tune: trials are chosen by validation, never by test"],
        references=["Cawley & Talbot, 2010: On over-fitting in model selection",
                    "tasks/data/splits.py: how the kit splits"],
    )  # fmt: skip
