"""The report on a GAN: summary, sample grids, interpolations, baselines and protocol."""

from __future__ import annotations

from tasks.gan import evaluation, frechet, image_grid, networks, sampling
from tasks.report import page
from tasks.report.baselines import compare_to_baseline
from tasks.report.formatting import format_value
from zoo.lazy import np

GRID_COLUMNS = 8  # images per row of a grid of samples
INTERPOLATION_ROWS, INTERPOLATION_STEPS = 5, 9  # pairs of latent vectors, and images per pair
CURVES = {  # titles by column of the history, besides the distance
    "critic_loss": "Loss of the critic",
    "generator_loss": "Loss of the generator",
    "critic_accuracy": "Critic accuracy: share of pairs ranked correctly",
    "diversity": "Diversity, relative to the data",
    "precision": "Precision",
    "recall": "Recall",
}
BASELINES = ("noise_fd", "untrained_fd", "train_fd")


def fixed_latents(generator, count, num_classes, seed):
    """Returns the latent vectors and labels of the grid of samples, the same after each epoch.

    For class-conditional generators each row is a class and each column a latent vector.

    Returns:
        Float32 `(count, latent_size)`, and int32 `(count,)` or `None` for unconditional ones.
    """
    size = sampling.latent_size(generator)
    if not sampling.is_conditional(generator):
        return sampling.sample_latents(count, size, seed), None
    rows = min(num_classes, count // GRID_COLUMNS)
    latent = np.tile(sampling.sample_latents(GRID_COLUMNS, size, seed), (rows, 1))
    return latent, np.repeat(np.arange(rows, dtype="int32"), GRID_COLUMNS)


def interpolation_grid(generator, num_classes, seed, batch_size):
    """Returns a grid of images, each row of which interpolates between two latent vectors."""
    ends = sampling.sample_latents(2 * INTERPOLATION_ROWS, sampling.latent_size(generator), seed)
    interpolations = [
        sampling.slerp(a, b, INTERPOLATION_STEPS)
        for a, b in zip(ends[::2], ends[1::2], strict=True)
    ]
    labels = np.repeat(
        np.arange(INTERPOLATION_ROWS, dtype="int32") % max(1, num_classes), INTERPOLATION_STEPS
    )
    pixels = sampling.generate(
        generator, np.concatenate(interpolations), labels, batch_size=batch_size
    )
    return image_grid.grid(pixels, INTERPOLATION_STEPS)


def baseline_distances(data, task, untrained):
    """Returns the Fréchet distances of three reference sets of images from the test split.

    The sets are uniform noise, images of an untrained generator, and images of the training split,
    which bound the distance of the trained generator.

    Args:
        data: the `dataset.GanData`.
        task: the `Gan`, for its flags.
        untrained: a generator with random weights.
    """
    count, random = task.num_samples, np.random.default_rng(task.seed)
    shape = data.image_shape
    noise = random.integers(0, 256, (count, *shape), "uint8")
    latent = sampling.sample_latents(count, task.latent_size, task.seed)
    labels = np.arange(count, dtype="int32") % len(data.source.classes)
    untrained_images = sampling.generate(untrained, latent, labels, batch_size=task.batch_size)
    indices = np.sort(random.permutation(len(data.train))[:count])
    sets = (noise, untrained_images, np.asarray(data.train.pixels[indices]))
    return {
        name: frechet.frechet_distance(data.test_features, data.features(pixels))
        for name, pixels in zip(BASELINES, sets, strict=True)
    }


def distance_warnings(name, figures):
    """Returns a warning if a generator is not better than an untrained one.

    Args:
        name: the name of the Fréchet distance in `figures`.
        figures: the metrics, with those of `baseline_distances`.
    """
    baseline = figures["untrained_fd"]
    description = f"that of an untrained generator ({format_value(name, baseline)})"
    return compare_to_baseline(
        name, "Fréchet distance", figures, baseline, description, lower_is_better=True
    )


def lead(task, data, figures):
    """Returns the summary of a run, two or more sentences for the top of the report."""
    name = evaluation.distance_name(task.feature_network)
    height, width, _ = data.image_shape
    value, low, high, noise, untrained, train = (
        format_value(name, figures[key])
        for key in (name, f"{name}_low", f"{name}_high", *BASELINES)
    )
    text = (
        f"{task.model} generates images of {height} x {width} pixels, trained on {task.data_name}. "
        f"The Fréchet distance between {task.num_samples:,} generated images and "
        f"{len(data.test):,} test images, in the features of {task.feature_network}, is {value} "
        f"({low} to {high}). "
        f"For comparison: it is {noise} for noise, {untrained} for an untrained generator and "
        f"{train} for images of the training split."
    )
    if "recognised_share" in figures:
        text += (
            f" The classifier {task.classifier} predicts a class with a probability over "
            f"{evaluation.CONFIDENCE_THRESHOLD} for {figures['recognised_share']:.1%} of the "
            f"generated images and {figures['real_recognised_share']:.1%} of the test images."
        )
    if "label_accuracy" in figures:
        text += f" It predicts the requested class for {figures['label_accuracy']:.1%} of them."
    return text


def sections(task, data, model):
    """Returns the sections with images: samples, interpolations, and the course of training."""
    generator, side = networks.get_networks(model)["generator"], data.image_shape[0]
    classes = data.source.classes
    pixels = data.test.pixels[np.arange(min(GRID_COLUMNS, len(data.test)))]
    latent, labels = fixed_latents(generator, task.grid_samples, len(classes), task.seed)
    generated = sampling.generate(generator, latent, labels, batch_size=task.batch_size)
    shown_classes = ", ".join(classes[: len(generated) // GRID_COLUMNS])
    row_classes = "" if labels is None else f" Each row is a class: {shown_classes}."
    interpolations = interpolation_grid(
        generator, len(classes) * (labels is not None), task.seed, task.batch_size
    )

    def figure(image, caption):
        return image_grid.figure(image, caption, side)

    samples = figure(
        image_grid.grid(generated, GRID_COLUMNS), f"Generated images, not selected.{row_classes}"
    ) + figure(image_grid.grid(pixels, GRID_COLUMNS), "Images of the test split.")
    parts = [
        ("Samples", samples),
        (
            "Interpolations",
            figure(interpolations, "Each row interpolates between two latent vectors."),
        ),
    ]
    frames = data.history.images()
    if len(frames) > 1:
        caption = f"The same latent vectors after {len(frames)} epochs, from the first to the last."
        parts.append(("Training", figure(image_grid.gif(frames, side), caption)))
    return parts


def protocol(task, data):
    """Returns the section on how the metrics were computed."""
    rows = [
        ("feature network", task.feature_network, "global average pooling of its last stage"),
        ("generated images", f"{task.num_samples:,}", f"seed {task.seed}"),
        ("real images", f"{len(data.test):,}", f"split {data.test.name}"),
        ("interval of the distance", "95%", "1.96 standard deviations of bootstrap resamples"),
        ("interval of kid", "95%", "1.96 standard deviations of subsets, scaled to all images"),
        ("precision, recall", "k = 3", "of 5,000 images of either kind at most"),
    ]
    return "Evaluation protocol", page.table(rows, ("item", "value", "details"))
