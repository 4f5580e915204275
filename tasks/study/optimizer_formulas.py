"""The update of each optimizer by its formula, in NumPy, with the defaults of Keras.

Each function returns the change of a parameter `p` for its gradient `g` in step `t`, from 1, at
learning rate `rate`. `state` is a dict of the optimizer's memory, empty at first.
"""

from __future__ import annotations

from zoo.lazy import np

MOMENTUM, EPSILON = 0.9, 1e-7
DECAY = 0.004  # of AdamW and Muon


def sgd(p, g, t, rate, state):
    """Steps against the gradient."""
    return -rate * g


def momentum(p, g, t, rate, state):
    """Steps by a velocity: v = mu v - rate g (Polyak, 1964)."""
    state["v"] = MOMENTUM * state.get("v", 0) - rate * g
    return state["v"]


def nesterov(p, g, t, rate, state):
    """Steps by the velocity after this one (Nesterov, 1983; Sutskever et al., 2013)."""
    return MOMENTUM * momentum(p, g, t, rate, state) - rate * g


def adagrad(p, g, t, rate, state):
    """Divides by the root of the sum of all squares (Duchi et al., 2011)."""
    state["a"] = state.get("a", 0.1) + g**2
    return -rate * g / np.sqrt(state["a"] + EPSILON)


def rmsprop(p, g, t, rate, state):
    """Divides by the root of a running mean of squares (Tieleman & Hinton, 2012)."""
    state["a"] = 0.9 * state.get("a", 0) + 0.1 * g**2
    return -rate * g / np.sqrt(state["a"] + EPSILON)


def adam(p, g, t, rate, state):
    """Divides a running mean by the root of one of squares (Kingma & Ba, 2015)."""
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * g
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * g**2
    corrected = rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    return -corrected * state["m"] / (np.sqrt(state["v"]) + EPSILON)


def adamw(p, g, t, rate, state):
    """Adds decay of the weights that is not divided (Loshchilov & Hutter, 2019)."""
    return adam(p, g, t, rate, state) - rate * DECAY * p


def lion(p, g, t, rate, state):
    """Steps by the sign of a running mean, equally far in each coordinate (Chen et al., 2023)."""
    m = state.get("m", 0)
    state["m"] = 0.99 * m + 0.01 * g
    return -rate * np.sign(0.9 * m + 0.1 * g)


def muon(p, g, t, rate, state):
    """Steps by momentum whose singular values are made nearly 1 (Jordan, 2024).

    The parameter is a matrix. Five Newton-Schulz iterations approximate `U V'` of the singular
    value decomposition `U S V'`; the factor is that of Liu et al., 2025.
    """
    state["m"] = 0.95 * state.get("m", 0) + g
    x = g + 0.95 * state["m"]
    x = x / (np.linalg.norm(x) + EPSILON)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return -0.2 * np.sqrt(max(p.shape)) * rate * x - rate * DECAY * p
