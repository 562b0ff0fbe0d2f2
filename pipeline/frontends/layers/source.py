"""Networks described in YAML as sources: built once, and run as built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.layers.description import build, load_network
from onnxsmith.runtime.session import Session


class LayersSource:
    """A network with the weights that its seed gives."""

    def __init__(self, request: ConvertRequest) -> None:
        network = load_network(Path(request.source))
        self.artifact = build(network, request.opset, request.seed)
        self.count = len(network.layers)

    def export(self, folder: Path) -> Export:
        """Write the model: it is the network itself, so that there is nothing to compare."""
        path = folder / "model.onnx"
        self.artifact.clone().save(path)
        return Export(path, untouched=True, details={"layers": self.count})

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the model as it was built; see ``Source.reference``."""
        with Session(self.artifact, optimize=False) as session:
            return session.run(feeds)
