"""Projections of features to two dimensions: principal components, t-SNE or UMAP."""

from __future__ import annotations

import importlib.util

from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import LazyModule, np

manifold = LazyModule("sklearn.manifold")
umap = LazyModule("umap")

NEEDED = {  # by method: its package, and how it is installed
    "tsne": ("sklearn", "scikit-learn: pip install 'keras-zoo[embed]'"),
    "umap": ("umap", "umap-learn: pip install 'keras-zoo[umap]'"),
}
TSNE_DIMENSIONS = 50  # principal components that t-SNE starts from (van der Maaten, 2008)
MAX_PERPLEXITY = 30
MAX_NEIGHBORS = 15  # of UMAP
MIN_IMAGES = 5  # of t-SNE and UMAP; fewer are projected by principal components


def check_method(name):
    """Raises `UsageError` if there is no such projection or its package is not installed."""
    if name not in PROJECTIONS:
        raise unknown_name_error("projection", name, list(PROJECTIONS))
    package, hint = NEEDED.get(name, ("", ""))
    if package and importlib.util.find_spec(package) is None:
        raise UsageError(f"--projection {name} needs {hint}")


def project(features, method="pca", *, seed=0):
    """Returns the positions of images in the plane, float64 `(images, 2)`.

    Args:
        features: `(images, features)`.
        method: `pca`, `tsne` (van der Maaten and Hinton, 2008) or `umap` (McInnes et al., 2018).
        seed: The random seed of t-SNE and UMAP.

    Raises:
        UsageError: There is no such method, or it needs a package that is not installed.
    """
    check_method(method)
    return PROJECTIONS[method](np.asarray(features, np.float64), seed)


def principal_components(features, count):
    """Returns the first principal components of features `(images, count)`.

    The sign of each is that for which its largest absolute value is positive. Components that
    there are not, of few images or features, are 0.
    """
    centred = features - features.mean(axis=0)
    found = np.zeros((len(centred), count))
    if centred.shape[1] <= len(centred):
        _, vectors = np.linalg.eigh(centred.T @ centred)
        parts = centred @ vectors[:, ::-1][:, :count]
    else:
        values, vectors = np.linalg.eigh(centred @ centred.T)
        parts = (vectors * np.sqrt(np.maximum(values, 0)))[:, ::-1][:, :count]
    largest = parts[np.abs(parts).argmax(axis=0), np.arange(parts.shape[1])]
    found[:, : parts.shape[1]] = parts * np.where(largest < 0, -1, 1)
    return found


def _pca(features, seed):
    return principal_components(features, 2)


def _tsne(features, seed):
    if len(features) < MIN_IMAGES:
        return _pca(features, seed)
    reduced = principal_components(features, min(TSNE_DIMENSIONS, features.shape[1]))
    perplexity = min(MAX_PERPLEXITY, (len(features) - 1) / 3)
    model = manifold.TSNE(init="pca", perplexity=perplexity, random_state=seed)
    return model.fit_transform(reduced).astype(np.float64)


def _umap(features, seed):
    if len(features) < MIN_IMAGES:
        return _pca(features, seed)
    reduced = principal_components(features, min(TSNE_DIMENSIONS, features.shape[1]))
    neighbors = min(MAX_NEIGHBORS, len(features) - 1)
    # One thread, which a seed requires; few images have no spectral layout to start from.
    model = umap.UMAP(n_neighbors=neighbors, init="pca", random_state=seed, n_jobs=1)
    return model.fit_transform(reduced).astype(np.float64)


PROJECTIONS = {"pca": _pca, "tsne": _tsne, "umap": _umap}
