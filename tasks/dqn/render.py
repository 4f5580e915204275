"""What an environment looks like to a person."""

from __future__ import annotations

from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")
ImageDraw = LazyModule("PIL.ImageDraw")

MIN_DISPLAY_SIZE = 168  # of a picture of a screen, at least, in pixels
WIDTH, HEIGHT = 300, 160  # of the drawing of a cart, in pixels, as the lengths below
TRACK_HEIGHT, CART_SIZE, POLE_LENGTH = 130, (44, 20), 80
MAX_CART_POSITION = 2.4  # of the cart, to both sides
BACKGROUND_COLOUR, TRACK_COLOUR, CART_COLOUR, POLE_COLOUR = (
    (255, 255, 255),
    (170, 178, 186),
    (27, 31, 36),
    (191, 112, 40),
)


class EpisodeRenderer:
    """Draws the steps of one episode: images as they are, the cart of CartPole, and no other.

    Args:
        env_spec: of the environment, `environments.EnvSpec`.
        max_pictures: pictures, at most.
    """

    def __init__(self, env_spec, max_pictures):
        self.env_spec, self.max_pictures, self.pictures = env_spec, max_pictures, []

    def draw(self, env, observation):
        """Adds the picture of a step, if there are not enough of them."""
        if len(self.pictures) >= self.max_pictures:
            return
        if self.env_spec.image:
            self.pictures.append(_upscale(observation))
        elif type(env.unwrapped).__name__ == "CartPoleEnv":
            self.pictures.append(draw_cartpole(observation[0], observation[2]))


def draw_cartpole(position, angle):
    """Returns a drawing of the cart at a place, in its own units, with the pole at an angle."""
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
    """Returns an image of any number of channels as one that shows its pixels, in RGB."""
    image = np.asarray(image)
    image = image if image.shape[2] == 3 else np.repeat(image.max(2, keepdims=True), 3, axis=2)
    times = max(1, MIN_DISPLAY_SIZE // max(image.shape[:2]))
    return image.repeat(times, axis=0).repeat(times, axis=1)
