"""Augmentation: sampled parameters, their effect on pixels and labels, and reproducibility."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.data import augment, batches, decoding, randaugment
from zoo.errors import UsageError

COUNT, SHAPE, CLASSES = 24, (16, 20, 3), 4
ALL = {
    "light": {"augment": "light"},
    "rand": {"augment": "rand"},
    "erase": {"erase": 0.5},
    "mixup": {"mix": "mixup"},
    "cutmix": {"mix": "cutmix"},
    "all": {"augment": "rand", "mix": "both", "erase": 0.5},
}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, "uint8")


def examples(pixels):
    return decoding.Examples("train", pixels, np.arange(len(pixels)) % CLASSES)


def epoch_of(pixels, **options):
    """Returns the images and labels of an epoch; options include `seed` and the epoch `number`."""
    options = {"batch_size": 8, "seed": 3, "num_classes": CLASSES, "number": 0, **options}
    number = options.pop("number")
    found = list(batches.training(examples(pixels), **options).epoch(number).as_numpy_iterator())
    return [np.concatenate(part) for part in zip(*found, strict=True)]


CASES = [(name, channels) for name in ALL for channels in (1, 2, 3, 5)]
FAST_CASES = [("all", channels) for channels in (1, 3, 5)]


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        case if case in FAST_CASES else pytest.param(*case, marks=pytest.mark.check)
        for case in CASES
    ],
)
def test_augmentation_is_a_function_of_seed_and_epoch(name, channels):
    pixels = noise(COUNT, 16, 20, channels)
    images, labels = epoch_of(pixels, **ALL[name])
    assert images.shape == (COUNT, 16, 20, channels)
    assert images.dtype == np.uint8
    assert labels.sum(-1) == pytest.approx(1, abs=1e-6)
    again = epoch_of(pixels, **ALL[name])
    np.testing.assert_array_equal(again[0], images)
    np.testing.assert_array_equal(again[1], labels)
    plain = epoch_of(pixels)
    assert (plain[0] != images).any()
    for other in ({"seed": 4}, {"number": 1}):
        assert (epoch_of(pixels, **ALL[name], **other)[0] != images).any()


def test_augmentation_of_images_keeps_labels_and_order():
    pixels = noise(COUNT, *SHAPE)
    _, labels = epoch_of(pixels)
    for name in ("light", "rand", "erase"):
        np.testing.assert_array_equal(epoch_of(pixels, **ALL[name])[1], labels)


@pytest.mark.parametrize(
    "options", [{"augment": "heavy"}, {"mix": "blend"}, {"erase": 1.5}], ids=str
)
def test_invalid_options_are_rejected(options):
    with pytest.raises(UsageError):
        epoch_of(noise(COUNT, *SHAPE), **options)


# light


def moved(image, mirror, down, right):
    """Returns the image flipped and shifted by integer pixels, padded by NumPy."""
    height, width = image.shape[:2]
    image = image[:, ::-1] if mirror else image
    wide = np.pad(image, ((4, 4), (4, 4), (0, 0)), "symmetric")
    return wide[4 - down : 4 - down + height, 4 - right : 4 - right + width]


def test_light_flips_and_shifts_by_integer_pixels_with_reflection():
    pixels = noise(64, 16, 20, 2)
    plain, _ = epoch_of(pixels)
    light, _ = epoch_of(pixels, augment="light")
    candidates = [(m, d, r) for m in (0, 1) for d in range(-2, 3) for r in range(-3, 4)]
    found = []
    for before, after in zip(plain, light, strict=True):
        matches = [each for each in candidates if (moved(before, *each) == after).all()]
        assert len(matches) == 1
        found += matches
    assert {each[0] for each in found} == {0, 1}
    assert len({each[1:] for each in found}) > 15


def test_light_samples_uniformly():
    sampled = augment.sample_params(0, 0, 1000, 10, (32, 64, 3), augment="light")
    assert sampled["mirror"].mean() == pytest.approx(0.5, abs=0.02)
    for name, limit in (("down", 4), ("right", 8)):
        counts = np.bincount(sampled[name].ravel() + limit, minlength=2 * limit + 1) / 10_000
        # Rounded: half at the ends.
        assert counts[1:-1] == pytest.approx(1 / (2 * limit), abs=0.02)
        assert counts[[0, -1]] == pytest.approx(1 / (4 * limit), abs=0.02)


# Mixing


@pytest.mark.parametrize("size", [8, 7])
def test_mixup_is_a_weighted_mean_of_images_and_labels(size):
    pixels = np.full((COUNT, *SHAPE), np.arange(COUNT)[:, None, None, None] * 10, "uint8")
    plain, onehot = epoch_of(pixels, batch_size=size)
    mixed, labels = epoch_of(pixels, batch_size=size, mix="mixup")
    shares = set()
    for start in range(0, len(plain), size):
        batch = slice(start, start + size)
        values, classes = plain[batch, 0, 0, 0].astype(float), onehot[batch].argmax(-1)
        for row, (image, label) in enumerate(zip(mixed[batch], labels[batch], strict=True)):
            other = row - 1  # the neighbor
            share = label[classes[row]] if classes[row] != classes[other] else None
            if share is not None:
                assert label[classes[other]] == pytest.approx(1 - share, abs=1e-6)
                mean = share * values[row] + (1 - share) * values[other]
                assert np.abs(image - mean).max() <= 0.5 + 1e-4
                shares.add(round(float(share), 5))
    assert len(shares) == len(plain) // size  # one weight per batch


def test_mixup_weights_have_a_beta_distribution():
    weight = augment.sample_params(0, 0, 1, 20_000, SHAPE, mix="mixup")["weight"]
    alpha = augment.MIXUP_ALPHA
    assert weight.mean() == pytest.approx(0.5, abs=0.02)
    assert weight.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.01)


def test_cutmix_labels_are_the_fractions_of_pixels():
    pixels = np.full((COUNT, *SHAPE), np.arange(COUNT)[:, None, None, None], "uint8")
    names = np.arange(COUNT) % CLASSES
    num_values = set()
    for number in range(2):
        images, labels = epoch_of(pixels, mix="cutmix", number=number)
        for image, label in zip(images, labels, strict=True):
            counted = np.bincount(names[image[..., 0].ravel()], minlength=CLASSES)
            assert label == pytest.approx(counted / counted.sum(), abs=1e-6)
            num_values.add(len(np.unique(image)))
    assert max(num_values) == 2


def test_area_of_cutmix_has_its_expected_mean():
    sampled = augment.sample_params(0, 0, 1, 20_000, (224, 224, 3), mix="cutmix")
    top, left, bottom, right = sampled["patch"].T
    assert min(top.min(), left.min()) == 0
    assert max(bottom.max(), right.max()) == 224
    area = (bottom - top) * (right - left) / 224**2
    assert sampled["kept"] == pytest.approx(1 - area, abs=1e-6)
    # A square of side s about a uniform center keeps s - s * s / 4 of each of its sides, and
    # s * s is uniform: the integral of (s - s**2 / 4)**2 over it is 1/2 - 1/5 + 1/48.
    assert area.mean() == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.01)


def test_both_is_mixup_or_cutmix_by_batch():
    sampled = augment.sample_params(0, 0, 1, 2000, SHAPE, mix="both")
    patched = sampled["patch"].any(-1)
    assert (sampled["weight"][patched] == 1).all()
    assert (sampled["weight"] == 1).mean() == pytest.approx(0.5, abs=0.05)
    plain = sampled["weight"] < 1
    assert not sampled["patch"][plain].any()
    assert (sampled["kept"][plain] == sampled["weight"][plain]).all()


def test_multi_label_targets_are_mixed():
    several = noise(COUNT, CLASSES) % 2
    data = decoding.Examples("train", np.zeros((COUNT, *SHAPE), "uint8"), several)
    options = {"batch_size": 8, "seed": 0, "num_classes": CLASSES}
    plain = list(batches.training(data, **options).epoch(0).as_numpy_iterator())
    mixed = list(batches.training(data, mix="mixup", **options).epoch(0).as_numpy_iterator())
    weights = augment.sample_params(0, 0, 8, 3, SHAPE, mix="mixup")["weight"]
    for (_, before), (_, after), weight in zip(plain, mixed, weights, strict=True):
        expected = weight * before + (1 - weight) * np.roll(before, 1, 0)
        assert after == pytest.approx(expected, abs=1e-6)


# Erasing


def test_an_erased_area_is_a_rectangle_of_noise_within_bounds():
    side, count = 64, 400
    pixels = np.zeros((count, side, side, 3), "uint8")
    images, _ = epoch_of(pixels, erase=0.5)
    holes = [np.argwhere(image.any(-1)) for image in images]
    assert np.mean([len(hole) > 0 for hole in holes]) == pytest.approx(0.5, abs=0.1)
    low, high = augment.ERASED_AREA
    for image, hole in zip(images, holes, strict=True):
        if not len(hole):
            continue
        top, left, bottom, right = *hole.min(0), *hole.max(0) + 1
        tall, wide = bottom - top, right - left
        # Sides are rounded down: each is up to one pixel shorter.
        assert tall * wide <= high * side**2
        assert (tall + 1) * (wide + 1) >= low * side**2
        inside = image[top:bottom, left:right]
        assert len(hole) > 0.999 * tall * wide  # black by chance once in 2**24
        assert inside.std() > 50
    tops = [hole.min(0)[0] for hole in holes if len(hole)]
    assert min(tops) < 5
    assert max(tops) > side / 2


def test_erase_0_erases_nothing_and_1_erases_in_all_images():
    pixels = np.zeros((COUNT, 32, 32, 1), "uint8")
    assert not epoch_of(pixels, erase=0.0)[0].any()
    assert epoch_of(pixels, erase=1.0)[0].any((1, 2, 3)).all()


# RandAugment: every operation against a formula


def picture():
    """Returns an image of many colors that does not use the full range of any channel."""
    y, x = np.mgrid[:24, :24]
    bands = np.stack([40 + 6 * x, 200 - 5 * y, 90 + 2 * x + 3 * y], -1)
    return (bands + noise(24, 24, 3) % 10).astype("uint8")


def blend(image, other, factor):
    return np.clip(other + factor * (image.astype(float) - other), 0, 255)


def luma(image):
    return image @ np.array([0.299, 0.587, 0.114])


def close(one, other, tolerance=1.5):  # levels: gray and blend are both truncated
    assert np.abs(one.astype(float) - other).max() <= tolerance


@pytest.mark.parametrize("mirrored", [False, True])
def test_enhancements_are_blends(mirrored):
    image = picture()
    factor = 1 + 0.27 * (-1 if mirrored else 1)  # 9 of 30 of 0.9

    def act(name):
        return randaugment.apply_op(image, name, 9, mirrored)

    close(act("brightness"), blend(image, 0, factor))
    close(act("color"), blend(image, luma(image)[..., None], factor))
    close(act("contrast"), blend(image, luma(image).mean(), factor))
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), (0, 1)).astype(float)
    smooth = (windows.sum((-1, -2)) + 4 * windows[..., 1, 1]) / 13
    inner = slice(1, -1)
    close(act("sharpness")[inner, inner], blend(image[inner, inner], smooth, factor))


def test_solarize_and_posterize():
    image = picture()
    inverted = np.where(image >= 255 - 0.3 * 255, 255 - image, image)
    assert (inverted != image).any()
    for mirrored in (False, True):  # these have no sign
        close(randaugment.apply_op(image, "solarize", 9, mirrored), inverted, 0)
        close(randaugment.apply_op(image, "posterize", 9, mirrored), image & 0b11111110, 0)
    close(randaugment.apply_op(image, "posterize", 30), image & 0b11110000, 0)
    close(randaugment.apply_op(image, "solarize", 30), 255 - image, 0)


def test_autocontrast_and_equalize():
    image = picture()
    low, high = image.min((0, 1)).astype(float), image.max((0, 1))
    close(randaugment.apply_op(image, "autocontrast"), (image - low) / (high - low) * 255)
    image = np.tile(image, (8, 8, 1))  # Pillow counts an integer number of pixels per level
    equal = randaugment.apply_op(image, "equalize")
    for before, after in zip(np.moveaxis(image, -1, 0), np.moveaxis(equal, -1, 0), strict=True):
        order = np.sort(before.ravel())
        # The level is the fraction of darker pixels.
        rank = np.searchsorted(order, before) / order.size * 255
        assert np.abs(after - rank).max() < 16
        assert after.min() == 0


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_geometric_operations_fill_with_grey(axis, mirrored):
    image = np.repeat(np.arange(100, dtype="uint8")[:, None, None], 100, 1)
    image = image if axis == "y" else image.transpose(1, 0, 2)
    way = -1 if mirrored else 1
    by = round(way * 100 * 150 / 331 * 0.3)
    shifted = randaugment.apply_op(image, f"translate_{axis}", 9, mirrored)
    line = shifted[:, 0, 0] if axis == "y" else shifted[0, :, 0]
    expected = [n + by if 0 <= n + by < 100 else 128 for n in range(100)]
    assert line.tolist() == expected
    sheared = randaugment.apply_op(image, f"shear_{axis}", 9, mirrored)
    sheared = sheared if axis == "y" else sheared.transpose(1, 0, 2)
    for along in (0, 40, 99):
        places = np.floor(np.arange(100) + 0.5 + way * 0.09 * (along + 0.5))
        line = np.where((places >= 0) & (places < 100), places, 128)
        assert (sheared[:, along, 0] == line).mean() > 0.98


def test_rotation_turns_about_the_centre():
    image = noise(32, 32, 3)
    np.testing.assert_array_equal(randaugment.apply_op(image, "rotate", 90), np.rot90(image))
    np.testing.assert_array_equal(
        randaugment.apply_op(image, "rotate", 90, True), np.rot90(image, -1)
    )
    assert (randaugment.apply_op(image, "rotate")[0, 0] == randaugment.FILL_VALUE).all()


def test_identity_and_operations_of_magnitude_0():
    image = picture()
    for name in set(randaugment.OPERATIONS) - {"autocontrast", "equalize"}:
        close(randaugment.apply_op(image, name, 0), image, 0)
    close(randaugment.apply_op(image, "identity", 30), image, 0)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_channels_are_transformed_independently(channels):
    image = noise(16, 16, channels)
    for name in randaugment.OPERATIONS:
        changed = randaugment.apply_op(image, name)
        for band in range(channels):
            alone = randaugment.apply_op(image[..., band : band + 1], name)
            np.testing.assert_array_equal(changed[..., band : band + 1], alone)
    assert (randaugment.apply_op(image, "color") == image).all()


def test_two_of_fourteen_operations_are_sampled_uniformly():
    assert len(randaugment.OPERATIONS) == 14
    sampled = augment.sample_params(0, 0, 100, 100, SHAPE, augment="rand")
    assert sampled["operations"].shape == (100, 100, 2)
    shares = np.bincount(sampled["operations"].ravel()) / 20_000
    assert shares == pytest.approx(np.full(14, 1 / 14), abs=0.01)
    assert sampled["mirrored"].mean() == pytest.approx(0.5, abs=0.02)


def test_a_batch_equals_its_images_one_by_one():
    images = noise(6, *SHAPE)
    operations, mirrored = randaugment.sample_ops(np.random.default_rng(5), (6,))
    names = list(randaugment.OPERATIONS)
    batch = randaugment.apply_batch(images, operations, mirrored).numpy()
    for before, after, chosen, ways in zip(images, batch, operations, mirrored, strict=True):
        for operation, way in zip(chosen, ways, strict=True):
            before = randaugment.apply_op(before, names[operation], mirrored=way)
        np.testing.assert_array_equal(after, before)
