"""Checks for shortcuts: evidence at the border of the images, or outside their objects.

A classifier that recognizes a watermark, a frame or the background of its training images is right
for the wrong reason (Lapuschkin et al., 2019; Geirhos et al., 2020).
"""

from __future__ import annotations

from tasks.advice import object_masks
from tasks.advice.findings import LOOK, CheckSkipped, Finding, format_count
from tasks.data.dataset import cache_per_source
from tasks.explain import faithfulness
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np

methods = LazyModule("tasks.explain.methods")

CHECK_NAME, OBJECTS_CHECK_NAME = "shortcut", "shortcut outside objects"
MAX_IMAGES = 64  # whose maps are computed
MIN_CORRECT = 16
MARGIN = 0.1  # width of the border, relative to the side
# The border is 36 % of the image, which is the share of a uniform map. A map mostly in the border,
# or outside the objects:
MAX_SHARE = 0.6
# Some maps touch the object by chance, since the receptive fields of deep layers are large.
MIN_OUTSIDE = 1 / 3  # of the predictions whose maps lie mostly outside the objects
MIN_UNIFORM_SHARE = 0.25  # of a uniform map outside the objects; other images are left out


def check_shortcut(sample):
    """Yields a finding if the maps of most correct predictions lie mostly in the border.

    Args:
        sample: A `model_predictions.ModelPredictions`.
    """
    _, maps = _correct_maps(sample)
    shares = np.array([faithfulness.border_share(saliency, MARGIN) for saliency in maps])
    mostly = shares > MAX_SHARE
    if mostly.mean() > 0.5:
        yield Finding(
            CHECK_NAME,
            LOOK,
            f"for {mostly.sum()} of {format_count(len(shares), 'correct prediction')} more than "
            f"{MAX_SHARE:.0%} of the heat of Grad-CAM lies in the border, which is "
            f"{1 - (1 - 2 * MARGIN) ** 2:.0%} of the image (median {np.median(shares):.0%})",
            "the model may use a watermark, a frame or the background; look at the maps by "
            "`zoo explain`, and crop or mask what gives the class away",
        )


def check_objects(sample, objects):
    """Yields a finding if the maps of many correct predictions lie mostly outside the objects.

    Many are more than `MIN_OUTSIDE`. A map lies mostly outside if its share there exceeds both
    `MAX_SHARE` and the share of a uniform map, which is large around a small object.

    Args:
        sample: A `model_predictions.ModelPredictions`.
        objects: What `object_masks.load` returned, or `None` without masks or boxes.
    """
    if objects is None:
        raise CheckSkipped("no masks or boxes; pass a data set that has them by --objects")
    correct, maps = _correct_maps(sample)
    try:
        masks = object_masks.find(sample, correct, objects)
    except UsageError as error:
        raise CheckSkipped(str(error)) from error
    pairs = [(saliency, masks[n]) for n, saliency in zip(correct, maps, strict=True) if n in masks]
    shares = np.array([faithfulness.outside_share(*pair) for pair in pairs])
    even = np.array([faithfulness.outside_share(np.ones_like(one), mask) for one, mask in pairs])
    shares, even = shares[even >= MIN_UNIFORM_SHARE], even[even >= MIN_UNIFORM_SHARE]
    if len(shares) < MIN_CORRECT:
        raise CheckSkipped(
            f"{len(masks)} of {format_count(len(correct), 'correct prediction')} have an object in "
            f"{objects.name}, {len(shares)} of them with enough image around it for maps of "
            f"{maps.shape[1]} x {maps.shape[2]} cells; {MIN_CORRECT} are needed"
        )
    mostly = (shares > MAX_SHARE) & (shares > even)
    if mostly.mean() > MIN_OUTSIDE:
        yield Finding(
            OBJECTS_CHECK_NAME,
            LOOK,
            f"for {mostly.sum()} of {format_count(len(shares), 'correct prediction')} more than "
            f"{MAX_SHARE:.0%} of the heat of Grad-CAM lies outside the objects (median "
            f"{np.median(shares):.0%}; of an even map {np.median(even):.0%})",
            "the model may use the background or a mark beside the objects; look at the maps by "
            "`zoo explain`, and crop or mask what gives the class away",
        )


@cache_per_source
def _correct_maps(sample):
    """Returns the first images with a correct prediction, and their Grad-CAM maps.

    Returns:
        Indices `(images,)`, and float32 `(images, rows, columns)`.

    Raises:
        CheckSkipped: There are too few, or Grad-CAM cannot explain the model.
    """
    correct = np.flatnonzero(sample.right)[:MAX_IMAGES]
    if len(correct) < MIN_CORRECT:
        raise CheckSkipped(
            f"{format_count(len(correct), 'correct prediction')}; {MIN_CORRECT} are needed"
        )
    if keras.backend.backend() != "tensorflow":
        raise CheckSkipped("saliency maps need the TensorFlow backend")
    try:
        explained = methods.prepare(sample.model)
    except UsageError as error:
        raise CheckSkipped(str(error)) from error
    if methods.default_method(explained) != "grad_cam":
        raise CheckSkipped("the model has no feature maps that Grad-CAM could weight")
    size, maps = methods.BATCH_SIZE, []
    for start in range(0, len(correct), size):
        part = correct[start : start + size]
        maps.append(methods.grad_cam(explained, sample.images[part], sample.predictions[part]))
    return correct, np.concatenate(maps)
