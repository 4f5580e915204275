"""Grid, random, narrowing and Bayesian search on a known surface and on a network."""

import zoo
from tasks.engine.flags import Between
from tasks.study import Claim, Findings, pictures, study, training
from tasks.study.digits import digits
from tasks.tuning import engines, space
from zoo.lazy import LazyModule, keras, np

oracles = LazyModule("tasks.tuning.oracles")

ENGINES = {"grid": "grid", "random": "random", "narrowing": "shrinking", "Bayesian": "bayesian"}
SIZES = {"random": 60, "Bayesian": 16}  # of dots: those of trials that both make are seen
RANGES = {"rate": Between(1e-4, 1.0, log=True), "momentum": Between(0.0, 0.99, log=False)}


def surface(rate, momentum, best):
    """Returns a score of at most 1, that of the best rate and momentum; the rate matters more."""
    decades = np.log10(rate / best[0])
    return np.exp(-((decades / 0.5) ** 2)) - 0.05 * (momentum - best[1]) ** 2


def network(rate, momentum, data, test, steps, seed):
    """Returns the accuracy of a perceptron on digits, trained by SGD."""
    keras.utils.set_random_seed(seed)
    optimizer = keras.optimizers.SGD(rate, momentum=momentum)
    model = zoo.build("mlp", widths=(32,))
    return training.train(
        model, *data, steps=steps, optimizer=optimizer, seed=seed, test=test
    ).scores[-1]


def search(engine, score, trials, seed):
    """Returns `(rate, momentum, score)` of each trial of a search engine of `zoo tune`."""
    options = {"points": round(trials**0.5)} if engine == "grid" else {}
    searched = space.SearchSpace(RANGES, dict.fromkeys(RANGES, float))
    oracle = engines.make_oracle(engine, searched, trials=trials, seed=seed, task=None, **options)
    found = []
    while (trial := oracle.create_trial("study")).status == oracles.RUNNING:
        values = [trial.hyperparameters.values[name] for name in RANGES]
        found.append((*values, score(*values)))
        oracle.update_trial(trial.trial_id, {oracles.SCORE: found[-1][2]})
        trial.status = oracles.COMPLETED
        oracle.end_trial(trial)
    return np.array(found)


def best_so_far(found, trials):
    """Returns the best score after each trial; the last one again if the search ended before."""
    best = np.maximum.accumulate(found[:, 2])
    return np.append(best, np.full(trials - len(best), best[-1]))


def draw(name, found, best):
    """Returns a picture of the trials of a search on its surface."""
    rates, momenta = np.geomspace(1e-4, 1, 80), np.linspace(0, 0.99, 40)
    drawn, axes = pictures.figure(height=3.8)
    axes.contourf(rates, momenta, surface(rates, momenta[:, None], best), 12, alpha=0.5)
    axes.scatter(*found[:, :2].T, c=np.arange(len(found)), cmap="Greys_r", s=30,
                 edgecolors=pictures.GREY)  # fmt: skip
    axes.set(xscale="log", xlabel="learning rate", ylabel="momentum",
             title=f"{name}: best {found[:, 2].max():.3f}")  # fmt: skip
    return pictures.svg(drawn)


@study(15, "How are good hyperparameters found with few trials?")
def run(
    seed: int = 0, trials: int = 16, repeats: int = 5, network_trials: int = 9, steps: int = 200
):
    """A grid spends its trials on few values of each hyperparameter, also of one that hardly
    matters; random trials never repeat a value. Searches that use the scores so far, by narrowing
    the ranges or by a model of the surface, spend most trials near the best."""
    rng = np.random.default_rng(seed)
    optima = [(10 ** rng.uniform(-3, -1), rng.uniform(0.2, 0.8)) for _ in range(repeats)]
    runs = {name: [search(engine, lambda r, m, best=best: surface(r, m, best), trials,
                          1_000 * seed + number) for number, best in enumerate(optima)]
            for name, engine in training.progress(ENGINES.items(), "surface")}  # fmt: skip
    shown = {name: draw(name, each[0], optima[0]) for name, each in runs.items()}
    mean = {n: np.mean([best_so_far(each, trials) for each in r], axis=0) for n, r in runs.items()}
    drawn, axes = pictures.figure()
    for name, values in mean.items():
        axes.plot(range(1, len(values) + 1), values, label=name)
    axes.set(xlabel="trial", ylabel="best score so far, mean")
    axes.legend()

    data, test = digits(800, seed), digits(500, seed + 10_000)
    drawn_network, axes = pictures.figure()
    accuracy = {}
    for name in SIZES:
        found = search(ENGINES[name], lambda r, m: network(r, m, data, test, steps, seed),
                       network_trials, seed)  # fmt: skip
        accuracy[name] = found[:, 2]
        axes.scatter(found[:, 0], found[:, 2], s=SIZES[name], label=name)
    axes.set(xscale="log", xlabel="learning rate", ylabel="accuracy of the network")
    axes.legend()
    every = np.concatenate(list(accuracy.values()))
    final = {name: values[-1] for name, values in mean.items()}
    values = {name: len(np.unique(runs[name][0][:, 0])) for name in ("grid", "random")}
    return Findings(
        claims=[
            Claim("A grid tries the root of its trials in values of the rate; random trials each "
                  "try another.",
                  values["grid"] == round(trials**0.5) and values["random"] == trials,
                  f"{values['grid']} and {values['random']} values in {trials} trials"),
            Claim("Random trials find better rates than a grid, on average over surfaces.",
                  final["random"] > final["grid"],
                  f"{final['random']:.3f} against {final['grid']:.3f} of 1"),
            Claim("So do searches that use the scores so far.",
                  min(final["Bayesian"], final["narrowing"]) > final["grid"],
                  f"Bayesian {final['Bayesian']:.3f}, narrowing {final['narrowing']:.3f}"),
            Claim("On a network, too, the choice decides: the best trial is 15 points above the "
                  "worst.", every.max() > every.min() + 0.15,
                  f"{every.max():.1%} and {every.min():.1%}; at best {accuracy['random'].max():.1%}"
                  f" by random and {accuracy['Bayesian'].max():.1%} by Bayesian search"),
        ],
        pictures=[
            ("Trials on a known surface", pictures.slider(shown, "search"),
             "Black trials came first, white ones last. The best is in the bright band."),
            ("Best score", pictures.svg(drawn), "All searches have equally many trials."),
            ("A network", pictures.svg(drawn_network),
             "Both searches start with the same trials. The learning rate decides, as on the known "
             "surface: too small or too large a rate does not train."),
        ],
        next_steps=["--trials 100: does the grid catch up?", "--network-trials 25: who wins now?",
                    "zoo tune classification --engine bayesian --trials 20: a real search"],
        references=["Bergstra & Bengio, 2012: Random search for hyper-parameter optimization",
                    "Snoek et al., 2012: Practical Bayesian optimization", "tasks/tuning"],
    )  # fmt: skip
