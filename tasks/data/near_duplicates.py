"""Copies of one picture, also when encoded anew or resized: a perceptual hash, then a comparison.

A picture becomes two hashes of 64 bits, whether neighbours differ from left to right and from top
to bottom (Krawetz, "Kind of Like That", 2013: dHash), here with a margin, so that noise on a flat
ground sets no bit. Pictures whose hashes are near are compared as 12 x 12 grey values: fine enough
to tell two shirts apart, too coarse to see the noise of JPEG.
"""

from __future__ import annotations

from itertools import count as counted
from itertools import pairwise

from zoo.lazy import np

COMPARED_SIDE = 12  # of the picture that is compared
DHASH_MARGIN = 2.0  # grey levels by which neighbours must differ to set a bit
MAX_HAMMING_DISTANCE = 6  # bits in which the first hashes of copies differ at most
MAX_TOTAL_HAMMING_DISTANCE = 10  # bits in which both together do
MIN_CORRELATION = 0.998  # correlation of copies
MAX_COLOUR_DIFFERENCE = 12.0  # levels by which the mean colours of copies differ at most
MIN_STD = 3.0  # standard deviation of grey below which a picture has nothing to compare
NUM_BANDS = 4  # of 16 bits each: hashes that differ in fewer bits than bands share one
BAND_LOOKUP_COST = 8  # times that a pair found through bands costs of one in a plain scan
PAIR_CHUNK = 2**18  # pairs compared at a time
SCAN_CHUNK = 2**22  # hashes compared at a time in a plain scan


def duplicate_pairs(grey, colours, digests):
    """Finds the pairs of pictures that are copies of each other.

    Args:
        grey: uint8 `(pictures, 32, 32)`.
        colours: float `(pictures, 3)`, mean red, green and blue.
        digests: of the contents of their files, `bytes` each.

    Returns:
        int64 `(pairs, 2)`, the lower position first, in order.
    """
    return np.unique(np.concatenate([*iter_duplicate_pairs(grey, colours, digests)]), axis=0)


def iter_duplicate_pairs(grey, colours, digests, wanted=lambda pairs: slice(None)):
    """Yields the pairs of copies, arrays `(some, 2)`, of which a caller may not want all.

    Among thousands of nearly equal pictures, such as the frames of a camera that does not move,
    there are millions of pairs.

    Args:
        grey, colours, digests: as `pairs` takes them.
        wanted: called with arrays of pairs that may be copies, the lower position first; returns
            which of them to compare.
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
    """Returns the hashes of pictures: uint64 `(pictures,)` from left to right, from top to bottom.

    Args:
        grey: `(pictures, 32, 32)`, in [0, 255].
    """
    across = np.diff(area_resize(grey, 8, 9), axis=2) > DHASH_MARGIN
    down = np.diff(area_resize(grey, 9, 8), axis=1) > DHASH_MARGIN
    return tuple(
        np.packbits(bits.reshape(-1, 64), axis=1).view("uint64")[:, 0] for bits in (across, down)
    )


def area_resize(grey, height, width):
    """Returns pictures `(pictures, rows, columns)` as float32 averages over areas."""
    rows, columns = (
        _area_weights(*sides) for sides in zip((height, width), grey.shape[1:], strict=True)
    )
    parts = np.array_split(grey, -(-len(grey) // 4096) or 1)
    return np.concatenate([rows @ part.astype("float32") @ columns.T for part in parts])


def _area_weights(small, large):
    """Returns the share of each of `large` pixels in each of `small`: rows that sum to 1."""
    edges = np.linspace(0, large, small + 1)
    places = np.arange(large)
    low, high = edges[:-1, None], edges[1:, None]
    shares = np.clip(np.minimum(high, places + 1) - np.maximum(low, places), 0, 1)
    return (shares / shares.sum(1, keepdims=True)).astype("float32")


def equal_digest_pairs(digests):
    """Returns the pairs of neighbours among positions of equal content."""
    places = {}
    for place, digest in enumerate(digests):
        places.setdefault(digest, []).append(place)
    found = [pair for group in places.values() for pair in pairwise(group)]
    return np.array(found, "int64").reshape(-1, 2)


def _near_hash_pairs(codes):
    """Yields arrays `(pairs, 2)` of positions whose codes differ in `NEAR` bits or fewer.

    Through bands every pair is found that differs in three bits or fewer, and of the others those
    that share a band; a plain scan finds all. What costs less is done.
    """
    bands = [(codes >> np.uint64(16 * band)) & np.uint64(0xFFFF) for band in range(NUM_BANDS)]
    sizes = [np.unique(band, return_counts=True)[1].astype("float64") for band in bands]
    if BAND_LOOKUP_COST * sum((size**2).sum() for size in sizes) < len(codes) ** 2:
        for band in bands:
            yield from _band_pairs(codes, band)
    else:
        yield from _all_pairs(codes)


def _band_pairs(codes, band):
    """Yields the near pairs among those of equal band."""
    order = np.argsort(band, kind="stable")
    codes, band = codes[order], band[order]
    places = np.arange(len(codes))
    for step in counted(1):
        places = places[places < len(codes) - step]
        places = places[band[places] == band[places + step]]
        if not len(places):
            return
        near = places[
            np.bitwise_count(codes[places] ^ codes[places + step]) <= MAX_HAMMING_DISTANCE
        ]
        yield np.stack([order[near], order[near + step]], axis=1)


def _all_pairs(codes):
    """Yields the near pairs of all."""
    rows = max(1, SCAN_CHUNK // max(1, len(codes)))
    for start in range(0, len(codes), rows):
        bits = np.bitwise_count(codes[start : start + rows, None] ^ codes[None, start:])
        one, two = np.nonzero(bits <= MAX_HAMMING_DISTANCE)
        later = two > one
        yield np.stack([one[later], two[later]], axis=1) + start
