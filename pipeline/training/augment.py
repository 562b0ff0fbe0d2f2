"""Change batches before they are learned."""

from __future__ import annotations

import numpy as np

from onnxsmith.pipeline.data.base import Batch
from onnxsmith.pipeline.training.batches import Augment


def mixup(alpha: float, classes: int | None) -> Augment:
    """Return what blends each batch with itself in another order; labels become soft.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (2018).
    """

    def blend(batch: Batch, rng: np.random.Generator) -> Batch:
        share = np.float32(rng.beta(alpha, alpha))
        order = rng.permutation(len(batch))
        inputs = {
            name: share * array + (1 - share) * array[order] if array.dtype.kind == "f" else array
            for name, array in batch.inputs.items()
        }
        labels = batch.labels
        assert labels is not None  # Shuffled refuses data without
        if labels.dtype.kind in "iu" and classes is not None:
            labels = np.eye(classes, dtype=np.float32)[labels]
        return Batch(inputs, share * labels + (1 - share) * labels[order])

    return blend
