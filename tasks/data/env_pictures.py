"""What an environment looks like to a person."""

from __future__ import annotations

from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")
ImageDraw = LazyModule("PIL.ImageDraw")

SIDE = 168  # of a picture of a screen, at least, in pixels
WIDTH, HEIGHT = 300, 160  # of the drawing of a cart, in pixels, as the lengths below
TRACK, CART, POLE = 130, (44, 20), 80
REACH = 2.4  # of the cart, to both sides
WHITE, GREY, INK, WOOD = (255, 255, 255), (170, 178, 186), (27, 31, 36), (191, 112, 40)


class Artist:
    """Draws the steps of one episode: images as they are, the cart of CartPole, and no other.

    Args:
        facts: of the environment, `environments.Facts`.
        most: pictures, at most.
    """

    def __init__(self, facts, most):
        self.facts, self.most, self.pictures = facts, most, []

    def draw(self, env, observation):
        """Adds the picture of a step, if there are not enough of them."""
        if len(self.pictures) >= self.most:
            return
        if self.facts.image:
            self.pictures.append(_enlarged(observation))
        elif type(env.unwrapped).__name__ == "CartPoleEnv":
            self.pictures.append(cart(observation[0], observation[2]))


def cart(place, angle):
    """Returns a drawing of the cart at a place, in its own units, with the pole at an angle."""
    image = Image.new("RGB", (WIDTH, HEIGHT), WHITE)
    pen = ImageDraw.Draw(image)
    pen.line([(0, TRACK), (WIDTH, TRACK)], GREY, 2)
    x = WIDTH / 2 * (1 + float(place) / REACH)
    (width, height), top = CART, TRACK - CART[1] / 2
    pen.rectangle([x - width / 2, TRACK - height, x + width / 2, TRACK], INK)
    tip = x + POLE * float(np.sin(angle)), top - POLE * float(np.cos(angle))
    pen.line([(x, top), tip], WOOD, 7)
    return np.array(image)


def _enlarged(image):
    """Returns an image of any number of channels as one that shows its pixels, in RGB."""
    image = np.asarray(image)
    image = image if image.shape[2] == 3 else np.repeat(image.max(2, keepdims=True), 3, axis=2)
    times = max(1, SIDE // max(image.shape[:2]))
    return image.repeat(times, axis=0).repeat(times, axis=1)
