"""Training on a real Ray cluster of this machine."""

from __future__ import annotations

import pytest

from onnxsmith.pipeline.frontends.layers.description import Network, build
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.train import train

pytestmark = pytest.mark.frameworks

TRAIN = "digits?split=train&scale=1/16"


# Ray opens sockets and files that it leaves to the interpreter's end.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_two_actors_give_the_curve_of_one_process() -> None:
    layers = [{"type": "dense", "units": 10}]
    model = build(Network.model_validate({"inputs": ["x:float32[batch,64]"], "layers": layers}))
    alone = train(model, TrainRequest(TRAIN, batch_size=64, epochs=2, threads=1))
    request = TrainRequest(TRAIN, batch_size=32, epochs=2, threads=1, parallel=2, engine="ray")
    shared = train(model, request)
    for one, other in zip(alone.epochs, shared.epochs, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
