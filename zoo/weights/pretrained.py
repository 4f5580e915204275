"""The metadata of pretrained weights, their class names, and the path of their file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zoo.errors import UsageError, unknown_name_error
from zoo.weights import cache, licences

ASSET_PREFIX = "asset:"  # marks the source of a file that is part of the package
ASSETS = Path(__file__).parents[1] / "assets"


@dataclass(frozen=True)
class Weights:
    """The metadata of one set of pretrained weights.

    Attributes:
        source: a URL, `asset:NAME` for a file that is part of the package, or `""` if the file
            cannot be downloaded and must be passed as `weights=FILE`.
        digest: MD5 or SHA-256 of the file in hexadecimal, or a prefix of the SHA-256.
        headless: `(source, digest)` of a smaller file without the head, or `None`.
        classes: name of the list of class names, an argument of `class_names`.
        num_classes: number of classes of the pretrained head.
        preprocessing: the preprocessing that the weights were trained with, a key of
            `blocks.PREPROCESSING`; `""` for the architecture's default.
        input_shape: `(height, width, channels)` of the training images, or `None` for the
            architecture's default.
        resize: how images are brought to that size: `stretch` or `crop`.
        learning_rate: peak learning rate that works well for fine-tuning all layers with an
            optimizer of Adam's family.
        options: builder options that a new head on these weights implies.
        licence: licence of the weights.
        figures: published metrics on the test split, such as `{"accuracy": 0.749}`.
        protocol: how the metrics were measured: data, size, crop or stretch, interpolation.
    """

    source: str = ""
    digest: str = ""
    headless: tuple[str, str] | None = None
    classes: str = ""
    num_classes: int = 1000
    preprocessing: str = ""
    input_shape: tuple[int, int, int] | None = None
    resize: str = "stretch"
    learning_rate: float = 1e-4
    options: Mapping[str, object] = field(default_factory=dict)
    licence: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    protocol: str = ""

    @property
    def commercial(self) -> bool | None:
        """Whether the licence allows commercial use; `None` if its name does not determine it."""
        return licences.allows_commercial_use(self.licence)

    @property
    def is_local(self) -> bool:
        """Whether a file is on this machine: part of the package, or downloaded before."""
        in_package = self.source.startswith(ASSET_PREFIX)
        return in_package or any(map(cache.existing_copies, self.published.values()))

    @property
    def published(self) -> dict[str, cache.RemoteFile]:
        """The downloadable files as `cache.RemoteFile`, by `whole` and, if any, `headless`."""
        if not self.source or self.source.startswith(ASSET_PREFIX):
            return {}
        files = {"whole": (self.source, self.digest), "headless": self.headless}
        return {part: cache.RemoteFile(*file) for part, file in files.items() if file}


def class_names(name: str) -> tuple[str, ...]:
    """Returns the class names of the list `name`, such as `imagenet`, in label order.

    Raises:
        UsageError: there is no list of that name.
    """
    path = ASSETS / f"{name}.txt"
    if not path.exists():
        raise unknown_name_error(
            "list of classes", name, sorted(p.stem for p in ASSETS.glob("*.txt"))
        )
    return tuple(path.read_text(encoding="utf-8").splitlines())


def fetch(name: str, facts: Weights, *, headless: bool = False) -> Path:
    """Returns the path of the file of pretrained weights; downloads it into the cache if needed.

    The digest is verified.

    Args:
        name: the model's name, for messages.
        facts: the metadata of the weights.
        headless: whether a file without the head is enough. The whole file is used if it is
            already on this machine.

    Raises:
        UsageError: the file cannot be downloaded, or its digest is wrong.
    """
    if facts.source.startswith(ASSET_PREFIX):
        return ASSETS / facts.source.removeprefix(ASSET_PREFIX)
    if not facts.source:
        raise UsageError(
            f"the weights of {name} have no source to download from; pass a file as weights=FILE"
        )
    whole, smaller = facts.published["whole"], facts.published.get("headless")
    owner = f"the weights of {name}"
    if headless and smaller:
        return cache.find_local(smaller) or cache.find_local(whole) or cache.fetch(smaller, owner)
    return cache.fetch(whole, owner)
