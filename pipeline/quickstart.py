"""The whole story on built-in data: what ``onnxsmith quickstart`` runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxsmith.pipeline.recipe import (
    BenchRecipe,
    EvaluateRecipe,
    QuantizeRecipe,
    Recipe,
    SourceRecipe,
)

if TYPE_CHECKING:
    from sklearn.neural_network import MLPClassifier

# Wide enough that weights dominate the file and int8 products pay.
_HIDDEN = (1024, 1024)
_EPOCHS = 12


def digits_classifier() -> MLPClassifier:
    """Return a perceptron trained on the training half of scikit-learn's handwritten digits.

    Inputs are ``[N, 64]`` float32, grey values 0 to 16 divided by 16; ten classes.
    """
    import warnings

    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    from onnxsmith.pipeline.data import open_data

    batches = list(open_data("digits?split=train&scale=1/16").batches(256))
    images = np.concatenate([next(iter(batch.inputs.values())) for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches if batch.labels is not None])
    model = MLPClassifier(_HIDDEN, max_iter=_EPOCHS, batch_size=64, random_state=0)
    with warnings.catch_warnings():
        # A fixed number of epochs is the point here; it need not reach the stopping tolerance.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(images.reshape(len(images), -1).astype(np.float32), labels)


def quickstart_recipe() -> Recipe:
    """Return the recipe: convert, check, optimize, quantize, evaluate, measure."""
    return Recipe(
        name="Handwritten digits, from scikit-learn to int8",
        source=SourceRecipe(path="onnxsmith.pipeline.quickstart:digits_classifier"),
        data="digits?split=train&scale=1/16",
        eval_data="digits?split=test&scale=1/16",
        quantize=QuantizeRecipe(mode="static", max_drop=0.005),
        evaluate=EvaluateRecipe(),
        bench=BenchRecipe(dims={"batch": 32}),
    )
