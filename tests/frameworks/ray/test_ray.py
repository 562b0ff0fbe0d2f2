"""Training on a real Ray cluster of this machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.frameworks

# In a process of its own: Ray forks, and other frameworks of these tests have threads by then.
TRAIN = """
import json
from onnxsmith.pipeline.frontends.layers.description import Network, build
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.train import train

data = "digits?split=train&scale=1/16"
layers = [{"type": "dense", "units": 10}]
model = build(Network.model_validate({"inputs": ["x:float32[batch,64]"], "layers": layers}))
alone = train(model, TrainRequest(data, batch_size=64, epochs=2, threads=1))
request = TrainRequest(data, batch_size=32, epochs=2, threads=1, parallel=2, engine="ray")
shared = train(model, request)
print(json.dumps([[epoch.loss for epoch in run.epochs] for run in (alone, shared)]))
"""


def test_two_actors_give_the_curve_of_one_process(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_python(TRAIN)
    assert done.returncode == 0, done.stderr
    alone, shared = json.loads(done.stdout.splitlines()[-1])
    assert len(alone) == 2
    assert shared == pytest.approx(alone, rel=1e-5)
