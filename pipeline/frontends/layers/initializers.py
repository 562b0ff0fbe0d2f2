"""Initial weights: made by a seed, so that the same description gives the same bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Initializer = Literal[
    "glorot", "glorot-normal", "he", "he-normal", "normal", "uniform", "zeros", "ones"
]

_SPREAD = 0.05


def initial(
    kind: Initializer,
    shape: Sequence[int],
    fans: tuple[int, int],
    rng: np.random.Generator,
) -> np.ndarray[Any, Any]:
    """Return float32 weights.

    ``glorot`` is uniform within ``sqrt(6 / (in + out))``, ``he`` within ``sqrt(6 / in)``; the
    normal ones have the same variance. ``normal`` has a deviation of 0.05, and ``uniform`` lies
    within 0.05.

    Args:
        kind: How.
        shape: The sizes.
        fans: How many numbers go into an output, and how many an input goes to.
        rng: Where chance comes from.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks" (2010); He et al., "Delving Deep into Rectifiers" (2015).
    """
    if kind in ("zeros", "ones"):
        return np.full(shape, float(kind == "ones"), np.float32)
    if kind in ("normal", "uniform"):
        variance = _SPREAD**2 / (3 if kind == "uniform" else 1)
    else:
        variance = 2 / sum(fans) if kind.startswith("glorot") else 2 / fans[0]
    if kind.endswith("normal"):
        return rng.normal(0, math.sqrt(variance), shape).astype(np.float32)
    limit = math.sqrt(3 * variance)
    return rng.uniform(-limit, limit, shape).astype(np.float32)
