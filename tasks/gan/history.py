"""What a GAN's run remembers of its epochs: figures, pictures, and what they warn of."""

from __future__ import annotations

import io
import json

from tasks.gan import image_grid
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

MAX_FRAMES = 40  # of the GIF of training; of a longer run every second one is left out, and again
WARNING_EPOCHS = 3  # epochs in a row that make a warning
MAX_CRITIC_ACCURACY, MIN_CRITIC_ACCURACY = (
    0.995,
    0.51,
)  # shares of pairs that a critic told apart, that say it won, or lost
MIN_DIVERSITY = 0.6  # of the diversity of the data, under which painted images are too much alike
DIVERGENCE_FACTOR = 2.0  # times the best distance, over which a run got worse
ROWS_KEY, FRAME_PREFIX = "rows", "frame/"


class GanHistory:
    """Rows of figures and frames of a run, epoch by epoch; a checkpoint holds them."""

    def __init__(self):
        self.rows, self.frames = [], []  # dicts; (epoch, bytes of a PNG file)
        self.metrics = {}

    def track(self, metrics):
        """Takes what an epoch's training measured from metrics, by name, at each `write`."""
        self.metrics = metrics

    def write(self, row, image):
        """Adds an epoch.

        Args:
            row: its figures by name.
            image: uint8 `(height, width, 1 or 3)`.
        """
        measured = {name: float(mean.result()) for name, mean in self.metrics.items()}
        self.rows.append({**measured, **row})
        self.frames.append((len(self.rows), image_grid.png(image)))
        if len(self.frames) > MAX_FRAMES:
            self.frames = self.frames[1::2]

    def images(self):
        """Returns the frames, uint8 arrays `(height, width, 1 or 3)`."""
        found = (np.asarray(Image.open(io.BytesIO(content))) for _, content in self.frames)
        return [image if image.ndim == 3 else image[..., None] for image in found]

    def arrays(self):
        """Returns everything as arrays by name."""
        named = {f"{FRAME_PREFIX}{epoch}": content for epoch, content in self.frames}
        named[ROWS_KEY] = json.dumps(self.rows).encode()
        return {name: np.frombuffer(content, "uint8") for name, content in named.items()}

    def restore(self, arrays):
        """Takes up what `arrays` returned, unless it is of an earlier epoch than what is known.

        The weights of the best epoch come back in the end; what came after it is still true.
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
        """Returns what went wrong in a run, in words.

        Args:
            distance: the name of the figure that is the smaller the better.
            loss: one of `train_step.LOSSES`.
        """
        last = self.rows[-WARNING_EPOCHS:] if len(self.rows) >= WARNING_EPOCHS else []
        found = []
        critic_accuracies = [row["told_apart"] for row in last]
        # A critic of Wasserstein's loss is meant to tell; its slope is bounded.
        if (
            critic_accuracies
            and min(critic_accuracies) > MAX_CRITIC_ACCURACY
            and loss != "wasserstein"
        ):
            found.append(
                f"the critic won: in the last {WARNING_EPOCHS} epochs it told "
                f"{min(critic_accuracies):.1%} or more "
                "of painted images from real ones, of which the generator learns little; lower "
                "--critic-rate, or take --critic-norm spectral"
            )
        if critic_accuracies and max(critic_accuracies) < MIN_CRITIC_ACCURACY:
            found.append(
                f"the critic gave up: in the last {WARNING_EPOCHS} epochs it told "
                f"{max(critic_accuracies):.1%} of "
                "painted images from real ones at most, where 50% is chance; raise --critic-rate "
                "or --critic-steps"
            )
        return [*found, *self._mode_collapse(), *self._divergence(distance)]

    def _mode_collapse(self):
        diversities = [row["diversity"] for row in self.rows if "diversity" in row]
        if not diversities or not diversities[-1] < MIN_DIVERSITY:
            return []
        return [
            f"mode collapse: after the last epoch painted images differed from each other "
            f"{diversities[-1]:.0%} as much as real ones do"
        ]

    def _divergence(self, distance):
        values = [row[distance] for row in self.rows if distance in row]
        if not values or not values[-1] > DIVERGENCE_FACTOR * min(values):
            return []
        best = values.index(min(values)) + 1
        return [
            f"the run diverged: the distance was {min(values):.3g} after epoch {best}, which is "
            f"kept, and {values[-1]:.3g} in the end"
        ]
