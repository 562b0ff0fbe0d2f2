"""The whole story on built-in data: what ``onnxsmith quickstart`` runs."""

from __future__ import annotations

from pathlib import Path

from onnxsmith.pipeline.recipe import (
    BenchRecipe,
    EvaluateRecipe,
    QuantizeRecipe,
    Recipe,
    SourceRecipe,
    TrainRecipe,
)

_NETWORK = Path(__file__).with_name("quickstart.yaml")


def quickstart_recipe() -> Recipe:
    """Return the recipe: build, train, optimize, quantize, evaluate, measure."""
    return Recipe(
        name="Handwritten digits, from a description of the network to int8",
        source=SourceRecipe(path=str(_NETWORK)),
        data="digits?split=train&scale=1/16",
        eval_data="digits?split=test&scale=1/16",
        train=TrainRecipe(epochs=12, schedule="cosine"),
        quantize=QuantizeRecipe(mode="static", max_drop=0.005),
        evaluate=EvaluateRecipe(),
        bench=BenchRecipe(dims={"batch": 32}),
    )
