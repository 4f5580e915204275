"""The report of a sequence model: sampled text, forecasts, or confusions."""

from __future__ import annotations

from tasks.report import axes, baselines, confusion_plot, svg
from tasks.report.formatting import escape, format_value
from tasks.report.plot_area import PlotArea
from tasks.sequence import evaluation, generation
from tasks.sequence.encoding import LABEL
from zoo.lazy import np

TEMPERATURES = (0.0, 0.5, 1.0)
NUM_CHARACTERS = 300  # of each sample
NUM_STEPS = 200  # of a plot
MAX_CHANNELS = 6  # of which forecasts are plotted


def sections(model, data, predictions, *, seed):
    """Returns the sections of the report, pairs of a heading and HTML.

    Args:
        model: The trained `keras.Model`.
        data: The `SequenceData`.
        predictions: What `evaluation.compute_metrics` returned for the test part.
        seed: The seed of sampled text.
    """
    if data.encoding.objective == LABEL:
        shape = (len(data.encoding.classes),) * 2
        matrix = np.zeros(shape, "int64")
        np.add.at(matrix, (data.test.labels, predictions.argmax(axis=1)), 1)
        return [
            ("Confusion matrix", confusion_plot.confusion_matrix(matrix, data.encoding.classes))
        ]
    if data.encoding.vocabulary:
        return [("Samples", _samples(model, data, seed))]
    return [
        ("Forecasts of the next step", _next_steps(data, predictions)),
        ("Forecasts from forecasts", _free_run(model, data)),
    ]


def lead(name, data, figures):
    """Returns the result in a sentence or two."""
    if data.encoding.objective == LABEL:
        return (
            f"{name} predicts the class of {figures['accuracy']:.1%} of {len(data.test):,} test "
            f"sequences; {figures['majority_share']:.1%} are of the most frequent class."
        )
    if data.encoding.vocabulary:
        return (
            f"The next character costs {name} {figures['loss']:.3f} nats, that is a perplexity of "
            f"{figures['perplexity']:.2f}, on the test part; a bigram model "
            f"{figures['bigram_loss']:.3f} nats."
        )
    return (
        f"The forecast of the next step by {name} has a mean absolute error of "
        f"{figures['mae']:.4g} on the test part; repeating the last value has "
        f"{figures['persistence_mae']:.4g}."
    )


def warnings(data, figures):
    """Returns warnings about a model that is no better than its baseline."""
    if data.encoding.objective == LABEL:
        share = figures["majority_share"]
        described = f"that of always predicting the most frequent class, {share:.1%}"
        return baselines.compare_to_baseline("accuracy", "accuracy", figures, share, described)
    name, baseline, words = (
        ("loss", "bigram_loss", "a bigram model")
        if data.encoding.vocabulary
        else ("mae", "persistence_mae", "repeating the last value")
    )
    if figures[name] < figures[baseline]:
        return []
    found, other = (format_value(each, figures[each]) for each in (name, baseline))
    return [f"the {name} of {found} is no better than that of {words}, {other}"]


def _samples(model, data, seed):
    """Returns text that continues the beginning of the test part, at several temperatures."""
    prompt = data.test.steps[: data.test.length, 0]
    tokens = generation.continue_tokens(
        generation.predict_function(model, len(TEMPERATURES)),
        [prompt] * len(TEMPERATURES),
        NUM_CHARACTERS,
        length=data.test.length,
        temperatures=TEMPERATURES,
        seed=seed,
    )
    figures = []
    for temperature, row in zip(TEMPERATURES, tokens, strict=True):
        caption = f"Temperature {temperature:g}, after the first {len(prompt)} test characters."
        text = escape(data.encoding.vocabulary.decode(row))
        figures.append(f"<figure><figcaption>{caption}</figcaption><pre>{text}</pre></figure>")
    start = escape(data.encoding.vocabulary.decode(prompt))
    first = f"<figure><figcaption>The prompt.</figcaption><pre>{start}</pre></figure>"
    return f'<div class="panels">{first}{"".join(figures)}</div>'


def _next_steps(data, forecasts):
    _, targets = evaluation.scored_steps(data.test)
    return _panels(data.encoding.channels, targets[:NUM_STEPS], forecasts[:NUM_STEPS], "test step")


def _free_run(model, data):
    """Returns plots of a forecast of as many steps as a window has, each from the last."""
    length = data.test.length
    truth = data.test.steps[length : 2 * length]
    run = generation.predict_function(model, 1)
    start = data.test.steps[:length]
    [forecast] = generation.continue_series(run, [start], len(truth), length=length)
    return _panels(data.encoding.channels, truth, forecast, "steps after the window")


def _panels(channels, truth, forecast, label):
    """Returns a plot per channel of the ground truth and a forecast, `(steps, channels)`."""
    lines = {"training": "ground truth", "validation": "forecast"}
    legend = " ".join(
        f"<span>{svg.inline_svg(20, 10, [svg.polyline([(0, 5), (20, 5)], kind=kind)])}{name}</span>"
        for kind, name in lines.items()
    )
    panels = []
    for index, name in enumerate(channels[:MAX_CHANNELS]):
        pair = truth[:, index].astype("float64"), forecast[:, index].astype("float64")
        finite = np.concatenate(pair)[np.isfinite(np.concatenate(pair))]
        area = PlotArea(
            axes.integer_axis(1, len(truth)), axes.nice_axis([finite.min(), finite.max()])
        )
        parts = area.grid(label)
        for kind, values in zip(lines, pair, strict=True):
            points = [
                area.to_pixels(x, y) for x, y in enumerate(values.tolist(), 1) if np.isfinite(y)
            ]
            parts.append(svg.polyline(points, kind=kind))
        plot = area.to_svg(parts, f"{name}: ground truth and forecast")
        panels.append(
            f'<div class="panel"><p><strong>{escape(name)}</strong> {legend}</p>{plot}</div>'
        )
    return f'<figure><div class="panels">{"".join(panels)}</div></figure>'
