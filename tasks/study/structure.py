"""How many layers and how many neurons: by trial and error, and by evolution."""

import zoo
from tasks.study import Claim, Findings, pictures, study, training
from tasks.study.digits import digits
from tasks.tuning import genetic_operators, genomes
from zoo.lazy import keras, np

UNITS = (4, 16, 64)


def accuracy(options, data, validation, steps, seed):
    """Returns the validation accuracy of a perceptron with these options, and its parameters."""
    keras.utils.set_random_seed(seed)
    model = zoo.build("mlp", **options)
    curve = training.train(model, *data, steps=steps, seed=seed, test=validation,
                           optimizer=keras.optimizers.Adam(0.01))  # fmt: skip
    return curve.scores[-1], model.count_params()


def evolve(data, validation, steps, seed, trials, cost):
    """Returns `(accuracy, parameters, widths)` of each trial, children of the best one so far.

    The score is the accuracy less `cost` for each tenfold number of parameters.
    """
    rng, found = np.random.default_rng(seed), []
    best = (-np.inf, genomes.MLP((genomes.DenseLayer(16),), "none", "tanh", False))
    for number in training.progress(range(trials), "evolution"):
        genome = genetic_operators.mutate(best[1], rng) if number else best[1]
        right, parameters = accuracy(genome.options(), data, validation, steps, seed)
        found.append((right, parameters, genome.options()["widths"]))
        best = max(best, (right - cost * np.log10(parameters), genome), key=lambda each: each[0])
    return found


@study(2, "How many layers and how many neurons does a network need?")
def run(seed: int = 0, steps: int = 400, layers: int = 3, trials: int = 8, cost: float = 0.01):
    """Too few neurons cannot tell the digits apart, however many layers they form, and more layers
    are not better by themselves. No formula gives the best structure: one tries, by hand in a
    table, or lets evolution change the best network so far."""
    data, validation = digits(1_500, seed), digits(1_000, seed + 10_000)
    depths = range(1, layers + 1)
    table, sizes = np.zeros((layers, len(UNITS))), np.zeros((layers, len(UNITS)), int)
    for depth in training.progress(depths, "layers"):
        for column, units in enumerate(UNITS):
            table[depth - 1, column], sizes[depth - 1, column] = accuracy(
                {"widths": (units,) * depth, "activation": "tanh"}, data, validation, steps,
                seed)  # fmt: skip
    linear, _ = accuracy({"widths": ()}, data, validation, steps, seed)
    evolved = evolve(data, validation, steps, seed, trials, cost)
    drawn, axes = pictures.figure(width=5, height=0.8 * layers + 1.2)
    axes.imshow(table, cmap="viridis", aspect="auto")
    for row, column in np.ndindex(table.shape):
        light = table[row, column] < (table.min() + table.max()) / 2
        axes.text(column, row, f"{table[row, column]:.1%}\n{sizes[row, column]:,}", va="center",
                  ha="center", color="white" if light else "#111111")  # fmt: skip
    axes.set(xticks=range(len(UNITS)), xticklabels=UNITS, yticks=range(layers), yticklabels=depths,
             xlabel="neurons in each layer", ylabel="hidden layers")  # fmt: skip
    axes.grid(False)
    drawn_sizes, axes = pictures.figure()
    axes.plot(sizes.ravel(), table.ravel(), "o", label="table")
    axes.plot([x[1] for x in evolved], [x[0] for x in evolved], "^", label="evolution")
    axes.set(xscale="log", xlabel="parameters", ylabel="validation accuracy")
    axes.legend()
    first, best = evolved[0], max(evolved, key=lambda each: each[0] - cost * np.log10(each[1]))
    margin = 2 * np.sqrt(0.25 / len(validation[0]))  # two standard errors of an accuracy
    return Findings(
        claims=[
            Claim(f"With {UNITS[0]} neurons per layer no depth reaches the best network of "
                  f"{UNITS[-1]}.", table[:, 0].max() < table[:, -1].max() - margin,
                  f"at best {table[:, 0].max():.1%} against {table[:, -1].max():.1%}; "
                  f"{linear:.1%} without a hidden layer"),
            Claim(f"Layers of {UNITS[0]} neurons do worse than no hidden layer at all.",
                  table[:, 0].max() < linear - margin,
                  f"{table[:, 0].max():.1%} against {linear:.1%}"),
        ],
        pictures=[
            ("Trial and error", pictures.svg(drawn),
             "Validation accuracy and number of parameters. Compare the columns, then the rows."),
            ("Accuracy against size", pictures.svg(drawn_sizes),
             "Networks at the upper left do as well with fewer parameters. Evolution went from "
             f"{first[0]:.1%} with {first[1]:,} parameters to {best[0]:.1%} with {best[1]:,}, in "
             f"layers of {best[2]}."),
        ],
        next_steps=["--steps 1600: do deep networks only need more steps?",
                    "--cost 0.05: does evolution find a smaller network?",
                    "zoo tune classification --model mlp --engine evolution: more trials"],
        references=["LeCun et al., 1998: Gradient-based learning, section III.C.4",
                    "Real et al., 2019: Regularized evolution for image classifiers",
                    "zoo/models/mlp.py, tasks/tuning/evolution.py"],
    )  # fmt: skip
