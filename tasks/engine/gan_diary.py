"""What a GAN's run remembers of its epochs: figures, pictures, and what they warn of."""

from __future__ import annotations

import io
import json

from tasks.report import samples
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

FRAMES = 40  # of the GIF of training; of a longer run every second one is left out, and again
LOOKED_AT = 3  # epochs in a row that make a warning
ALWAYS, NEVER = 0.995, 0.51  # shares of pairs that a critic told apart, that say it won, or lost
COLLAPSED = 0.6  # of the diversity of the data, under which painted images are too much alike
LOST = 2.0  # times the best distance, over which a run got worse
ROWS, FRAME = "rows", "frame/"


class Diary:
    """Rows of figures and frames of a run, epoch by epoch; a checkpoint holds them."""

    def __init__(self):
        self.rows, self.frames = [], []  # dicts; (epoch, bytes of a PNG file)
        self.means = {}

    def follow(self, means):
        """Takes what an epoch's training measured from metrics, by name, at each `write`."""
        self.means = means

    def write(self, row, picture):
        """Adds an epoch.

        Args:
            row: its figures by name.
            picture: uint8 `(height, width, 1 or 3)`.
        """
        measured = {name: float(mean.result()) for name, mean in self.means.items()}
        self.rows.append({**measured, **row})
        self.frames.append((len(self.rows), samples.png(picture)))
        if len(self.frames) > FRAMES:
            self.frames = self.frames[1::2]

    def pictures(self):
        """Returns the frames, uint8 arrays `(height, width, 1 or 3)`."""
        found = (np.asarray(Image.open(io.BytesIO(content))) for _, content in self.frames)
        return [image if image.ndim == 3 else image[..., None] for image in found]

    def arrays(self):
        """Returns everything as arrays by name."""
        named = {f"{FRAME}{epoch}": content for epoch, content in self.frames}
        named[ROWS] = json.dumps(self.rows).encode()
        return {name: np.frombuffer(content, "uint8") for name, content in named.items()}

    def restore(self, arrays):
        """Takes up what `arrays` returned, unless it is of an earlier epoch than what is known.

        The weights of the best epoch come back in the end; what came after it is still true.
        """
        rows = json.loads(arrays[ROWS].tobytes())
        if len(rows) < len(self.rows):
            return
        self.rows = rows
        epochs = sorted(int(name[len(FRAME) :]) for name in arrays if name.startswith(FRAME))
        self.frames = [(epoch, arrays[f"{FRAME}{epoch}"].tobytes()) for epoch in epochs]

    def warnings(self, distance, loss):
        """Returns what went wrong in a run, in words.

        Args:
            distance: the name of the figure that is the smaller the better.
            loss: one of `adversarial.LOSSES`.
        """
        last = self.rows[-LOOKED_AT:] if len(self.rows) >= LOOKED_AT else []
        found = []
        told = [row["told_apart"] for row in last]
        # A critic of Wasserstein's loss is meant to tell; its slope is bounded.
        if told and min(told) > ALWAYS and loss != "wasserstein":
            found.append(
                f"the critic won: in the last {LOOKED_AT} epochs it told {min(told):.1%} or more "
                "of painted images from real ones, of which the generator learns little; lower "
                "--critic-rate, or take --critic-norm spectral"
            )
        if told and max(told) < NEVER:
            found.append(
                f"the critic gave up: in the last {LOOKED_AT} epochs it told {max(told):.1%} of "
                "painted images from real ones at most, where 50% is chance; raise --critic-rate "
                "or --critic-steps"
            )
        return [*found, *self._collapse(), *self._decline(distance)]

    def _collapse(self):
        spread = [row["diversity"] for row in self.rows if "diversity" in row]
        if not spread or not spread[-1] < COLLAPSED:
            return []
        return [
            f"mode collapse: after the last epoch painted images differed from each other "
            f"{spread[-1]:.0%} as much as real ones do"
        ]

    def _decline(self, distance):
        values = [row[distance] for row in self.rows if distance in row]
        if not values or not values[-1] > LOST * min(values):
            return []
        best = values.index(min(values)) + 1
        return [
            f"the run diverged: the distance was {min(values):.3g} after epoch {best}, which is "
            f"kept, and {values[-1]:.3g} in the end"
        ]
