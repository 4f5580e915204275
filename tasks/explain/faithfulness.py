"""How faithful a saliency map is, and where it lies: deletion and insertion, the pointing game."""

from __future__ import annotations

from tasks.explain.overlays import to_image_size
from zoo.lazy import np, tf

POINTS = 17  # of a curve
BLUR = 11  # side in pixels of the blur that an insertion curve starts from


def deletion(explained, image, saliency, label):
    """Returns the area under the deletion curve (Petsiuk et al., 2018): lower is more faithful.

    It is the mean probability of the class while the pixels of the highest saliency are replaced
    by the mean color, a share of them at a time.

    Args:
        explained: A `methods.Explained`.
        image: `(height, width, channels)`, in [0, 255].
        saliency: `(rows, columns)`.
        label: The class.
    """
    image = np.asarray(image, "float32")
    mean = np.broadcast_to(image.mean((0, 1)), image.shape)
    return _area(explained, image, mean, saliency, label)


def insertion(explained, image, saliency, label):
    """Returns the area under the insertion curve: higher is more faithful.

    It is the mean probability of the class while the pixels of the highest saliency are put into a
    blurred image, a share of them at a time.

    Args:
        explained: A `methods.Explained`.
        image: `(height, width, channels)`, in [0, 255].
        saliency: `(rows, columns)`.
        label: The class.
    """
    image = np.asarray(image, "float32")
    return _area(explained, _blurred(image), image, saliency, label)


def points_into(saliency, mask, tolerance=0):
    """Returns whether the maximum of a map lies in an object (pointing game, Zhang et al., 2016).

    The point is the center of the cell of the highest saliency, where the map at the size of the
    image has its maximum. There, a cell at the border has it in all pixels from its center to the
    border, of which the first would be in a corner of the image.

    Args:
        saliency: `(rows, columns)`.
        mask: `(height, width)`, true inside the object.
        tolerance: Distance in pixels from the object that still counts as inside.
    """
    cell = np.unravel_index(np.argmax(saliency), saliency.shape)
    row, column = (np.array(cell) + 0.5) * np.divide(mask.shape, saliency.shape)
    rows, columns = np.nonzero(mask)
    distances = np.hypot(rows - int(row), columns - int(column))
    return bool(distances.min(initial=np.inf) <= tolerance)


def border_share(saliency, margin=0.1):
    """Returns the share of a map in the border of the image, in [0, 1].

    Args:
        saliency: `(rows, columns)`.
        margin: Width of the border relative to the side of the image.
    """
    enlarged = to_image_size(saliency, (100, 100))
    width = round(100 * margin)
    total = enlarged.sum()
    return float(1 - enlarged[width:-width, width:-width].sum() / total) if total else 0.0


def outside_share(saliency, mask):
    """Returns the share of a map outside the objects of an image, in [0, 1].

    A map is no more exact than its cells: those with a pixel of an object count as inside, and so
    do their neighbors.

    Args:
        saliency: `(rows, columns)`.
        mask: bool `(height, width)`, true inside the objects.
    """
    inside = np.zeros(saliency.shape, bool)
    pixels = np.argwhere(mask)
    inside[tuple((pixels * saliency.shape // mask.shape).T)] = True
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(inside, 1), (3, 3))
    total = saliency.sum()
    return float(saliency[~windows.any((2, 3))].sum() / total) if total else 0.0


def _area(explained, start, end, saliency, label):
    """Returns the mean probability while pixels of `start` become those of `end`, the most salient
    first."""
    order = np.argsort(-to_image_size(saliency, start.shape[:2]).reshape(-1), kind="stable")
    rank = np.empty(len(order), "int64")
    rank[order] = np.arange(len(order))
    rank = rank.reshape(start.shape[:2])
    counts = np.linspace(0, len(order), POINTS)
    images = np.stack([np.where((rank < count)[..., None], end, start) for count in counts])
    curve = explained.probabilities(images)[:, label]
    return float((curve[1:] + curve[:-1]).mean() / 2)


def _blurred(image):
    x = tf.nn.avg_pool2d(image[None], BLUR, 1, "SAME")
    return tf.nn.avg_pool2d(x, BLUR, 1, "SAME").numpy()[0]
