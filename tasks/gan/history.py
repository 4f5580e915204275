"""The history of a GAN's training: metrics and sample grids per epoch, and warnings."""

from __future__ import annotations

import io
import json

from tasks.gan import image_grid
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

MAX_FRAMES = 40  # frames in the GIF of the training; every second one is dropped above it
WARNING_EPOCHS = 3  # consecutive epochs that a warning needs
# Above and below these shares of pairs that it ranks correctly, the critic is too strong or weak.
MAX_CRITIC_ACCURACY, MIN_CRITIC_ACCURACY = 0.995, 0.51
MIN_DIVERSITY = 0.6  # relative to that of the data; below it the generator has collapsed modes
DIVERGENCE_FACTOR = 2.0  # last distance over the best one, above which training has diverged
ROWS_KEY, FRAME_PREFIX = "rows", "frame/"


class GanHistory:
    """Metrics and sample grids of each epoch, which are part of a checkpoint."""

    def __init__(self):
        self.rows, self.frames = [], []  # dicts of metrics; pairs of epoch and PNG bytes
        self.metrics = {}

    def track(self, metrics):
        """Sets the training metrics, a dict by name, whose values each `write` adds to its row."""
        self.metrics = metrics

    def write(self, row, image):
        """Adds an epoch.

        Args:
            row: its validation metrics by name.
            image: its grid of samples, uint8 `(height, width, 1 or 3)`.
        """
        training = {name: float(metric.result()) for name, metric in self.metrics.items()}
        self.rows.append({**training, **row})
        self.frames.append((len(self.rows), image_grid.png(image)))
        if len(self.frames) > MAX_FRAMES:
            self.frames = self.frames[1::2]

    def images(self):
        """Returns the frames, uint8 arrays `(height, width, 1 or 3)`."""
        images = (np.asarray(Image.open(io.BytesIO(content))) for _, content in self.frames)
        return [image if image.ndim == 3 else image[..., None] for image in images]

    def arrays(self):
        """Returns the state as a dict of arrays by name."""
        named = {f"{FRAME_PREFIX}{epoch}": content for epoch, content in self.frames}
        named[ROWS_KEY] = json.dumps(self.rows).encode()
        return {name: np.frombuffer(content, "uint8") for name, content in named.items()}

    def restore(self, arrays):
        """Restores the state that `arrays` returned, unless it has fewer epochs than this one.

        At the end of a run the checkpoint of the best epoch is restored for its weights; the
        history of later epochs must not be lost by that.
        """
        rows = json.loads(arrays[ROWS_KEY].tobytes())
        if len(rows) < len(self.rows):
            return
        self.rows = rows
        epochs = sorted(
            int(name[len(FRAME_PREFIX) :]) for name in arrays if name.startswith(FRAME_PREFIX)
        )
        self.frames = [(epoch, arrays[f"{FRAME_PREFIX}{epoch}"].tobytes()) for epoch in epochs]

    def warnings(self, distance, loss):
        """Returns warnings about failed training, such as mode collapse, as sentences.

        Args:
            distance: name of the Frechet distance in the rows.
            loss: name of the adversarial loss, one of `train_step.LOSSES`.
        """
        return [
            *self._critic_balance(loss),
            *self._mode_collapse(),
            *self._divergence(distance),
        ]

    def _critic_balance(self, loss):
        last = self.rows[-WARNING_EPOCHS:] if len(self.rows) >= WARNING_EPOCHS else []
        critic_accuracies = [row["critic_accuracy"] for row in last]
        if not critic_accuracies:
            return []
        lowest, highest = min(critic_accuracies), max(critic_accuracies)
        # With the Wasserstein loss the critic is meant to separate them: its gradient is bounded.
        if lowest > MAX_CRITIC_ACCURACY and loss != "wasserstein":
            return [
                f"the critic is too strong: in the last {WARNING_EPOCHS} epochs it ranked "
                f"{lowest:.1%} or more of real images above generated ones, which leaves the "
                "generator little gradient; lower --critic-learning-rate, or use --critic-norm "
                "spectral"
            ]
        if highest < MIN_CRITIC_ACCURACY:
            return [
                f"the critic is too weak: in the last {WARNING_EPOCHS} epochs it ranked "
                f"{highest:.1%} or less of real images above generated ones, where 50% is chance; "
                "raise --critic-learning-rate or --critic-steps"
            ]
        return []

    def _mode_collapse(self):
        diversities = [row["diversity"] for row in self.rows if "diversity" in row]
        if not diversities or not diversities[-1] < MIN_DIVERSITY:
            return []
        return [
            f"mode collapse: after the last epoch the diversity of generated images is "
            f"{diversities[-1]:.0%} of that of real images"
        ]

    def _divergence(self, distance):
        values = [row[distance] for row in self.rows if distance in row]
        if not values or not values[-1] > DIVERGENCE_FACTOR * min(values):
            return []
        best = values.index(min(values)) + 1
        return [
            f"training diverged: the distance was {min(values):.3g} after epoch {best}, which is "
            f"kept, and {values[-1]:.3g} after the last epoch"
        ]
