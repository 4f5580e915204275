"""The check for shortcuts: evidence at the border of the images, where objects rarely are.

A classifier that recognizes a watermark, a frame or the background of its training images is right
for the wrong reason (Lapuschkin et al., 2019; Geirhos et al., 2020).
"""

from __future__ import annotations

from tasks.advice.findings import LOOK, CheckSkipped, Finding, format_count
from tasks.explain import faithfulness
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np

methods = LazyModule("tasks.explain.methods")

CHECK_NAME = "shortcut"
MAX_IMAGES = 64  # whose maps are computed
MIN_CORRECT = 16
MARGIN = 0.1  # width of the border, relative to the side
# The border is 36 % of the image, which is the share of an even map. A map mostly in the border:
MAX_BORDER_SHARE = 0.6


def check_shortcut(sample):
    """Yields a finding if the maps of most correct predictions lie mostly in the border.

    Args:
        sample: A `model_predictions.ModelPredictions`.
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
    shares = border_shares(explained, sample.images[correct], sample.predictions[correct])
    mostly = shares > MAX_BORDER_SHARE
    if mostly.mean() > 0.5:
        yield Finding(
            CHECK_NAME,
            LOOK,
            f"for {mostly.sum()} of {format_count(len(shares), 'correct prediction')} more than "
            f"{MAX_BORDER_SHARE:.0%} of the heat of Grad-CAM lies in the border, which is "
            f"{1 - (1 - 2 * MARGIN) ** 2:.0%} of the image (median {np.median(shares):.0%})",
            "the model may use a watermark, a frame or the background; look at the maps by "
            "`zoo explain`, and crop or mask what gives the class away",
        )


def border_shares(explained, images, classes):
    """Returns the share of Grad-CAM in the border of each image; without evidence, 0.

    Args:
        explained: A `methods.Explained`.
        images: uint8 `(images, height, width, channels)`.
        classes: The class of each image.
    """
    size = methods.BATCH_SIZE
    shares = []
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        maps = methods.grad_cam(explained, images[part], classes[part])
        shares += [faithfulness.border_share(saliency, MARGIN) for saliency in maps]
    return np.array(shares)
