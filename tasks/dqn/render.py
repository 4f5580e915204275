"""Renders the steps of an episode as images."""

from __future__ import annotations

from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")
ImageDraw = LazyModule("PIL.ImageDraw")

MIN_DISPLAY_SIZE = 168  # pixels; smaller observations are enlarged
WIDTH, HEIGHT = 300, 160  # of the drawing of a cart, in pixels
TRACK_HEIGHT, CART_SIZE, POLE_LENGTH = 130, (44, 20), 80  # in pixels
MAX_CART_POSITION = 2.4  # in the units of CartPole
BACKGROUND_COLOUR, TRACK_COLOUR = (255, 255, 255), (170, 178, 186)
CART_COLOUR, POLE_COLOUR = (27, 31, 36), (191, 112, 40)


class EpisodeRenderer:
    """Renders the steps of one episode: image observations, and the cart of CartPole.

    Other environments have no frames.

    Args:
        env_spec: the `environments.EnvSpec`.
        max_frames: frames to render, at most.
    """

    def __init__(self, env_spec, max_frames):
        self.env_spec, self.max_frames, self.frames = env_spec, max_frames, []

    def draw(self, env, observation):
        """Renders a step, unless there are `max_frames` frames already."""
        if len(self.frames) >= self.max_frames:
            return
        if self.env_spec.image:
            self.frames.append(_upscale(observation))
        elif type(env.unwrapped).__name__ == "CartPoleEnv":
            self.frames.append(draw_cartpole(observation[0], observation[2]))


def draw_cartpole(position, angle):
    """Returns a uint8 image of a cart at a position, with the pole at an angle in radians."""
    image = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND_COLOUR)
    pen = ImageDraw.Draw(image)
    pen.line([(0, TRACK_HEIGHT), (WIDTH, TRACK_HEIGHT)], TRACK_COLOUR, 2)
    x = WIDTH / 2 * (1 + float(position) / MAX_CART_POSITION)
    (width, height), top = CART_SIZE, TRACK_HEIGHT - CART_SIZE[1] / 2
    pen.rectangle([x - width / 2, TRACK_HEIGHT - height, x + width / 2, TRACK_HEIGHT], CART_COLOUR)
    tip = x + POLE_LENGTH * float(np.sin(angle)), top - POLE_LENGTH * float(np.cos(angle))
    pen.line([(x, top), tip], POLE_COLOUR, 7)
    return np.array(image)


def _upscale(image):
    """Returns an image with any number of channels in RGB, enlarged by an integer factor."""
    image = np.asarray(image)
    image = image if image.shape[2] == 3 else np.repeat(image.max(2, keepdims=True), 3, axis=2)
    factor = max(1, MIN_DISPLAY_SIZE // max(image.shape[:2]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
