"""What a report says and shows of a GAN."""

from __future__ import annotations

from tasks.gan import evaluation, frechet, image_grid, networks, sampling
from tasks.report import page
from tasks.report.formatting import format_value
from zoo.lazy import np

GRID_COLUMNS = 8  # of the grid of samples
INTERPOLATION_ROWS, INTERPOLATION_STEPS = 5, 9  # rows of the interpolation, and images in each
CURVES = {  # columns of the history, besides the distance: titles
    "critic_loss": "Loss of the critic",
    "generator_loss": "Loss of the generator",
    "told_apart": "Pairs that the critic tells apart",
    "diversity": "Diversity, in parts of that of the data",
    "precision": "Share of painted images that might be real",
    "recall": "Share of real images that might be painted",
}
BASELINES = ("noise_fd", "untrained_fd", "train_fd")


def fixed_latents(generator, count, num_classes, seed):
    """Returns latent vectors and classes to paint the same grid from after every epoch.

    Of a generator that is told the class, a row is a class, and a column a latent vector.
    """
    size = sampling.latent_size(generator)
    if not sampling.is_conditional(generator):
        return sampling.sample_latents(count, size, seed), None
    rows = min(num_classes, count // GRID_COLUMNS)
    latent = np.tile(sampling.sample_latents(GRID_COLUMNS, size, seed), (rows, 1))
    return latent, np.repeat(np.arange(rows, dtype="int32"), GRID_COLUMNS)


def interpolation_grid(generator, num_classes, seed, batch_size):
    """Returns a grid of images on the way from one latent vector to another, a way in each row."""
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
    """Returns the Frechet distances of three other sets of as many images from the test split.

    Of noise, of what a generator paints that has learned nothing, and of images of the training
    split, which no generator is asked to better.

    Args:
        data: a `dataset.GanData`.
        task: for its flags.
        untrained: such a generator.
    """
    count, random = task.samples, np.random.default_rng(task.seed)
    shape = data.image_shape
    noise = random.integers(0, 256, (count, *shape), "uint8")
    latent = sampling.sample_latents(count, task.latent_size, task.seed)
    labels = np.arange(count, dtype="int32") % len(data.source.classes)
    untrained_images = sampling.generate(untrained, latent, labels, batch_size=task.batch_size)
    chosen = np.sort(random.permutation(len(data.train))[:count])
    sets = (noise, untrained_images, np.asarray(data.train.pixels[chosen]))
    return {
        name: frechet.frechet_distance(data.test_features, data.features(pixels))
        for name, pixels in zip(BASELINES, sets, strict=True)
    }


def lead(task, data, figures):
    """Says what came out, in a sentence or two for somebody who was not there."""
    name = evaluation.distance_name(task.network)
    height, width, _ = data.image_shape
    low, high = (format_value(name, figures[f"{name}_{end}"]) for end in ("low", "high"))
    text = (
        f"{task.model} paints images of {height} x {width} pixels like those of {task.data_name}. "
        f"The Frechet distance of {task.samples:,} painted images from {len(data.test):,} test "
        f"images, in the features of {task.network}, is {format_value(name, figures[name])} "
        f"({low} to "
        f"{high}). For scale: of noise it is {format_value(name, figures['noise_fd'])}, of an "
        "untrained "
        f"generator {format_value(name, figures['untrained_fd'])}, of images of the training split "
        f"{format_value(name, figures['train_fd'])}."
    )
    if "recognised_share" in figures:
        text += (
            f" The classifier {task.classifier} names {figures['recognised_share']:.1%} of them "
            f"at a probability over {evaluation.CONFIDENCE_THRESHOLD}, and "
            f"{figures['real_recognised_share']:.1%} "
            "of the test images."
        )
    if "label_accuracy" in figures:
        text += f" It sees the class that was asked for in {figures['label_accuracy']:.1%}."
    return text


def sections(task, data, model):
    """Returns the sections on a trained model: samples, what lies between them, how they came."""
    generator, side = networks.get_networks(model)["generator"], data.image_shape[0]
    classes = data.source.classes
    pixels = data.test.pixels[np.arange(min(GRID_COLUMNS, len(data.test)))]
    shown = data.history.images()
    latent, labels = fixed_latents(generator, task.shown, len(classes), task.seed)
    generated = sampling.generate(generator, latent, labels, batch_size=task.batch_size)
    told = (
        "" if labels is None else f" A row is a class: {', '.join(classes[: len(generated) // 8])}."
    )
    interpolations = interpolation_grid(
        generator, len(classes) * (labels is not None), task.seed, task.batch_size
    )
    found = [
        (
            "Samples",
            image_grid.figure(
                image_grid.grid(generated, GRID_COLUMNS), f"Painted, not chosen.{told}", side
            )
            + image_grid.figure(
                image_grid.grid(pixels, GRID_COLUMNS), "Images of the test split.", side
            ),
        ),
        (
            "Between samples",
            image_grid.figure(
                interpolations, "Each row goes from one latent vector to another.", side
            ),
        ),
    ]
    if len(shown) > 1:
        animation = image_grid.gif(shown, side)
        caption = (
            f"The same latent vectors, {len(shown)} times between the first epoch and the last."
        )
        found.append(("Training", image_grid.figure(animation, caption, side)))
    return found


def protocol(task, data):
    """Returns a section on what the figures were computed from."""
    rows = [
        ("feature network", task.network, "averages of the maps of its last stage"),
        ("painted images", f"{task.samples:,}", f"seed {task.seed}"),
        ("real images", f"{len(data.test):,}", f"the split {data.test.name}"),
        ("interval of the distance", "95%", "1.96 deviations of resampled sets"),
        ("interval of kid", "95%", "1.96 deviations of subsets, scaled to all images"),
        ("precision, recall", "k = 3", "of 5,000 images of either kind at most"),
    ]
    return "What was compared", page.table(rows, ("what", "which", "how"))
