"""Near-duplicate images, also if re-encoded or resized: perceptual hashes, then correlation.

Each image has two hashes of 64 bits: the signs of the differences between horizontal and vertical
neighbors (Krawetz, "Kind of Like That", 2013: dHash), here with a margin, so that noise on a flat
background sets no bit. Images with similar hashes are compared as 12 x 12 gray values: fine enough
to distinguish two shirts, too coarse for the noise of JPEG.
"""

from __future__ import annotations

from itertools import count as counted
from itertools import pairwise

from zoo.lazy import np

COMPARED_SIDE = 12  # pixels, of the images that are correlated
DHASH_MARGIN = 2.0  # gray levels by which neighbors must differ to set a bit
MAX_HAMMING_DISTANCE = 6  # in bits, between the first hashes of near duplicates
MAX_TOTAL_HAMMING_DISTANCE = 10  # in bits, of both hashes together
MIN_CORRELATION = 0.998  # of the gray values of near duplicates
MAX_COLOUR_DIFFERENCE = 12.0  # levels, between the mean colors of near duplicates
MIN_STD = 3.0  # standard deviation of gray; flatter images are not compared
NUM_BANDS = 4  # of 16 bits each: hashes that differ in fewer bits than bands share a band
BAND_LOOKUP_COST = 8  # cost of a pair found through bands, relative to one in a full scan
PAIR_CHUNK = 2**18  # pairs compared at a time
SCAN_CHUNK = 2**22  # hashes compared at a time in a full scan


def duplicate_pairs(grey, colours, digests):
    """Returns the pairs of near-duplicate images.

    Args:
        grey: uint8 `(images, 32, 32)`.
        colours: float `(images, 3)`, mean red, green and blue.
        digests: The digests of the file contents, a list of `bytes`.

    Returns:
        int64 `(pairs, 2)`, sorted, the lower index first.
    """
    return np.unique(np.concatenate([*iter_duplicate_pairs(grey, colours, digests)]), axis=0)


def iter_duplicate_pairs(grey, colours, digests, wanted=lambda pairs: slice(None)):
    """Yields arrays `(pairs, 2)` of near-duplicate images, filtered by the caller.

    Among thousands of nearly equal images, such as the frames of a fixed camera, there are millions
    of pairs, of which a caller may not need all.

    Args:
        grey, colours, digests: As in `duplicate_pairs`.
        wanted: A function of an array of candidate pairs, the lower index first, that returns
            which of them to compare, as an index.
    """
    tiny = area_resize(grey, COMPARED_SIDE, COMPARED_SIDE).reshape(len(grey), -1)
    tiny -= tiny.mean(1, keepdims=True)
    size = np.linalg.norm(tiny, axis=1)
    detailed = np.flatnonzero(size > MIN_STD * COMPARED_SIDE)
    tiny /= np.maximum(size, 1e-6)[:, None]
    across, down = dhash(grey[detailed])
    yield equal_digest_pairs(digests)
    for near in _near_hash_pairs(across):
        for part in np.array_split(near, max(1, len(near) // PAIR_CHUNK)):
            bits = np.bitwise_count(across[part[:, 0]] ^ across[part[:, 1]])
            bits += np.bitwise_count(down[part[:, 0]] ^ down[part[:, 1]])
            kept = np.sort(detailed[part[bits <= MAX_TOTAL_HAMMING_DISTANCE]], axis=1)
            kept = kept[wanted(kept)]
            one, two = kept.T
            alike = np.einsum("ij,ij->i", tiny[one], tiny[two]) >= MIN_CORRELATION
            alike &= np.abs(colours[one] - colours[two]).max(1, initial=0) <= MAX_COLOUR_DIFFERENCE
            yield kept[alike]


def dhash(grey):
    """Returns the horizontal and the vertical difference hash of images, uint64 `(images,)` each.

    Args:
        grey: `(images, 32, 32)`, in [0, 255].
    """
    across = np.diff(area_resize(grey, 8, 9), axis=2) > DHASH_MARGIN
    down = np.diff(area_resize(grey, 9, 8), axis=1) > DHASH_MARGIN
    return tuple(
        np.packbits(bits.reshape(-1, 64), axis=1).view("uint64")[:, 0] for bits in (across, down)
    )


def area_resize(grey, height, width):
    """Returns images resized by area averaging, float32 `(images, height, width)`."""
    rows, columns = (
        _area_weights(*sides) for sides in zip((height, width), grey.shape[1:], strict=True)
    )
    parts = np.array_split(grey, -(-len(grey) // 4096) or 1)
    return np.concatenate([rows @ part.astype("float32") @ columns.T for part in parts])


def _area_weights(small, large):
    """Returns the weight of each of `large` pixels in each of `small`: rows that sum to 1."""
    edges = np.linspace(0, large, small + 1)
    indices = np.arange(large)
    low, high = edges[:-1, None], edges[1:, None]
    shares = np.clip(np.minimum(high, indices + 1) - np.maximum(low, indices), 0, 1)
    return (shares / shares.sum(1, keepdims=True)).astype("float32")


def equal_digest_pairs(digests):
    """Returns pairs of indices of equal digests, chained: int64 `(pairs, 2)`."""
    indices = {}
    for index, digest in enumerate(digests):
        indices.setdefault(digest, []).append(index)
    found = [pair for group in indices.values() for pair in pairwise(group)]
    return np.array(found, "int64").reshape(-1, 2)


def _near_hash_pairs(codes):
    """Yields arrays `(pairs, 2)` of indices of hashes within `MAX_HAMMING_DISTANCE`.

    Lookup by bands finds all pairs that differ in three bits or fewer, and of the others those
    that share a band; a full scan finds all. The cheaper of the two is used.
    """
    bands = [(codes >> np.uint64(16 * band)) & np.uint64(0xFFFF) for band in range(NUM_BANDS)]
    sizes = [np.unique(band, return_counts=True)[1].astype("float64") for band in bands]
    if BAND_LOOKUP_COST * sum((size**2).sum() for size in sizes) < len(codes) ** 2:
        for band in bands:
            yield from _band_pairs(codes, band)
    else:
        yield from _all_pairs(codes)


def _band_pairs(codes, band):
    """Yields the similar pairs among hashes with the same band."""
    order = np.argsort(band, kind="stable")
    codes, band = codes[order], band[order]
    indices = np.arange(len(codes))
    for step in counted(1):
        indices = indices[indices < len(codes) - step]
        indices = indices[band[indices] == band[indices + step]]
        if not len(indices):
            return
        near = indices[
            np.bitwise_count(codes[indices] ^ codes[indices + step]) <= MAX_HAMMING_DISTANCE
        ]
        yield np.stack([order[near], order[near + step]], axis=1)


def _all_pairs(codes):
    """Yields all similar pairs."""
    rows = max(1, SCAN_CHUNK // max(1, len(codes)))
    for start in range(0, len(codes), rows):
        bits = np.bitwise_count(codes[start : start + rows, None] ^ codes[None, start:])
        one, two = np.nonzero(bits <= MAX_HAMMING_DISTANCE)
        later = two > one
        yield np.stack([one[later], two[later]], axis=1) + start
