"""Recurrent networks: long memory, gradients through time, and text character by character."""

from tasks.study import Claim, Findings, pictures, study
from tasks.study.characters import write_text
from tasks.study.first_symbol import SYMBOLS, train_and_measure
from tasks.study.training import progress
from zoo.lazy import np

CELLS = {  # the recurrent layer, and whether its gates start open for the whole length
    "plain": ("SimpleRNN", False),
    "GRU": ("GRU", False),
    "LSTM": ("LSTM", False),
    "GRU, open gates": ("GRU", True),
    "LSTM, open gates": ("LSTM", True),
}


@study(22, "What does a recurrent network remember?")
def run(seed: int = 0, length: int = 30, steps: int = 200, repeats: int = 3, text_steps: int = 150):
    """The gradient of a recurrent network goes back through every step, and is multiplied in each.
    Gates can let the state pass, but only if they are open: with the usual initial values an LSTM
    or a GRU forgets within some ten steps, and takes long to learn a longer memory. With gates that
    start open for the whole length both learn it. So does the plain network here, as its recurrent
    weights are orthogonal at first: that gates remember longer does not show at this length. A GRU
    also learns to write text, one character after the other, by predicting the next one."""
    scores, gradients = {}, {}
    for name, (kind, opened) in progress(CELLS.items(), "cells"):
        gradients[name], at, scores[name] = train_and_measure(
            kind, opened, length, steps, repeats, seed
        )
    bits, baseline, samples = write_text(text_steps, seed)
    drawn, axes = pictures.figure()
    for name, sizes in gradients.items():
        axes.plot(range(1, length + 1), np.maximum(sizes, 1e-12), label=name)
    axes.set(yscale="log", xlabel="time of the input", ylabel="gradient, of that at the end")
    axes.legend()
    drawn_curves, axes = pictures.figure()
    for name, runs in scores.items():
        axes.plot(at, runs.mean(0), "o-", label=name)
    axes.axhline(1 / SYMBOLS, linestyle="--", color=pictures.GREY)
    axes.set(xlabel="step", ylabel="test accuracy", ylim=(0, 1.05))
    drawn_curves.legend(loc="outside upper center", ncols=3)
    first = {name: float(sizes[0]) for name, sizes in gradients.items()}
    best = {name: float(runs[:, -3:].mean()) for name, runs in scores.items()}
    opened = [best["LSTM, open gates"], best["GRU, open gates"]]
    return Findings(
        claims=[
            Claim("At the start of training the gradient of an LSTM or a GRU by the first input is "
                  "below a tenth of that by the last one.",
                  max(first["LSTM"], first["GRU"]) < 0.1,
                  f"{first['LSTM']:.0e} and {first['GRU']:.0e}"),
            Claim("With open gates it is larger for both.",
                  all(first[f"{x}, open gates"] > first[x] for x in ("LSTM", "GRU")),
                  f"{first['LSTM, open gates']:.0e} and {first['GRU, open gates']:.0e}"),
            # Means of several trainings: one may be lucky. Chance is a quarter.
            Claim("With open gates both name the first symbol as often as the plain network or "
                  "more often, within two standard errors of 400 examples (0.03).",
                  min(opened) > best["plain"] - 0.03,
                  f"{opened[0]:.2f} and {opened[1]:.2f} against {best['plain']:.2f}"),
            Claim("With the usual initial values gates are no advantage: a GRU names it less often "
                  "than the plain network, and an LSTM less often than one with open gates.",
                  best["GRU"] < best["plain"] and best["LSTM"] < opened[0],
                  f"{best['GRU']:.2f} and {best['LSTM']:.2f}"),
            Claim("A GRU predicts the next character of unseen text better than the frequencies of "
                  "pairs of characters.", bits < baseline,
                  f"{bits:.2f} against {baseline:.2f} bits per character"),
        ],
        pictures=[
            ("Gradient through time", pictures.svg(drawn),
             "The symbol to remember is at time 1. The plain network multiplies by an orthogonal "
             "matrix at first, so its gradient shrinks slowly; what is unstable is its training."),
            ("Remembering the first symbol", pictures.svg(drawn_curves),
             "The dashed line is chance; each curve is the mean of several trainings."),
            ("Text", pictures.text("\n\n".join(f"step {k}: {v}" for k, v in samples.items())),
             "What the network writes; it has read a few kilobytes of the zoo's documentation."),
        ],
        next_steps=["--length 15: do the usual gates suffice?", "--length 60 --steps 600: do any?",
                    "--text-steps 1000: does it copy whole sentences?"],
        references=["Hochreiter & Schmidhuber, 1997 (LSTM); Cho et al., 2014 (GRU)",
                    "Pascanu et al., 2013: On the difficulty of training recurrent networks",
                    "Tallec & Ollivier, 2018: Can recurrent neural networks warp time?",
                    "tasks/study/first_symbol.py; zoo/layers/caption_decoders.py (captions)"],
    )  # fmt: skip
