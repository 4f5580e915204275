"""What a report says and shows of a GAN."""

from __future__ import annotations

from tasks.engine import gan_judges, gan_painting, gan_players
from tasks.report import frechet, page, samples
from tasks.report.words import number
from zoo.lazy import np

COLUMNS = 8  # of the grid of samples
WAYS, STEPS = 5, 9  # rows of the interpolation, and images in each
CURVES = {  # columns of the history, besides the distance: titles
    "critic_loss": "Loss of the critic",
    "generator_loss": "Loss of the generator",
    "told_apart": "Pairs that the critic tells apart",
    "diversity": "Diversity, in parts of that of the data",
    "precision": "Share of painted images that might be real",
    "recall": "Share of real images that might be painted",
}
REFERENCES = ("noise_fd", "untrained_fd", "train_fd")


def fixed(generator, count, num_classes, seed):
    """Returns latent vectors and classes to paint the same grid from after every epoch.

    Of a generator that is told the class, a row is a class, and a column a latent vector.
    """
    size = gan_painting.latent_size(generator)
    if not gan_painting.told(generator):
        return gan_painting.latents(count, size, seed), None
    rows = min(num_classes, count // COLUMNS)
    latent = np.tile(gan_painting.latents(COLUMNS, size, seed), (rows, 1))
    return latent, np.repeat(np.arange(rows, dtype="int32"), COLUMNS)


def strip(generator, num_classes, seed, batch_size):
    """Returns a grid of images on the way from one latent vector to another, a way in each row."""
    ends = gan_painting.latents(2 * WAYS, gan_painting.latent_size(generator), seed)
    ways = [gan_painting.between(a, b, STEPS) for a, b in zip(ends[::2], ends[1::2], strict=True)]
    labels = np.repeat(np.arange(WAYS, dtype="int32") % max(1, num_classes), STEPS)
    pixels = gan_painting.paint(generator, np.concatenate(ways), labels, batch_size=batch_size)
    return samples.grid(pixels, STEPS)


def references(data, task, untrained):
    """Returns the Frechet distances of three other sets of as many images from the test split.

    Of noise, of what a generator paints that has learned nothing, and of images of the training
    split, which no generator is asked to better.

    Args:
        data: a `gan_data.Painting`.
        task: for its flags.
        untrained: such a generator.
    """
    count, random = task.samples, np.random.default_rng(task.seed)
    shape = data.image_shape
    noise = random.integers(0, 256, (count, *shape), "uint8")
    latent = gan_painting.latents(count, task.latent_size, task.seed)
    labels = np.arange(count, dtype="int32") % len(data.source.classes)
    scribble = gan_painting.paint(untrained, latent, labels, batch_size=task.batch_size)
    chosen = np.sort(random.permutation(len(data.train))[:count])
    sets = (noise, scribble, np.asarray(data.train.pixels[chosen]))
    return {
        name: frechet.distance(data.tested, data.features(pixels))
        for name, pixels in zip(REFERENCES, sets, strict=True)
    }


def lead(task, data, figures):
    """Says what came out, in a sentence or two for somebody who was not there."""
    name = gan_judges.distance_name(task.network)
    height, width, _ = data.image_shape
    low, high = (number(name, figures[f"{name}_{end}"]) for end in ("low", "high"))
    text = (
        f"{task.model} paints images of {height} x {width} pixels like those of {task.data_name}. "
        f"The Frechet distance of {task.samples:,} painted images from {len(data.test):,} test "
        f"images, in the features of {task.network}, is {number(name, figures[name])} ({low} to "
        f"{high}). For scale: of noise it is {number(name, figures['noise_fd'])}, of an untrained "
        f"generator {number(name, figures['untrained_fd'])}, of images of the training split "
        f"{number(name, figures['train_fd'])}."
    )
    if "recognised_share" in figures:
        text += (
            f" The classifier {task.classifier} names {figures['recognised_share']:.1%} of them "
            f"at a probability over {gan_judges.SURE}, and {figures['real_recognised_share']:.1%} "
            "of the test images."
        )
    if "label_accuracy" in figures:
        text += f" It sees the class that was asked for in {figures['label_accuracy']:.1%}."
    return text


def sections(task, data, model):
    """Returns the sections on a trained model: samples, what lies between them, how they came."""
    generator, side = gan_players.players(model)["generator"], data.image_shape[0]
    classes = data.source.classes
    pixels = data.test.pixels[np.arange(min(COLUMNS, len(data.test)))]
    shown = data.diary.pictures()
    latent, labels = fixed(generator, task.shown, len(classes), task.seed)
    painted = gan_painting.paint(generator, latent, labels, batch_size=task.batch_size)
    told = (
        "" if labels is None else f" A row is a class: {', '.join(classes[: len(painted) // 8])}."
    )
    ways = strip(generator, len(classes) * (labels is not None), task.seed, task.batch_size)
    found = [
        (
            "Samples",
            samples.figure(samples.grid(painted, COLUMNS), f"Painted, not chosen.{told}", side)
            + samples.figure(samples.grid(pixels, COLUMNS), "Images of the test split.", side),
        ),
        (
            "Between samples",
            samples.figure(ways, "Each row goes from one latent vector to another.", side),
        ),
    ]
    if len(shown) > 1:
        film = samples.gif(shown, side)
        caption = (
            f"The same latent vectors, {len(shown)} times between the first epoch and the last."
        )
        found.append(("Training", samples.figure(film, caption, side)))
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
