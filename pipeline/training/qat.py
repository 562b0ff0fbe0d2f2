"""Train a model as it computes once it is quantized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxsmith.artifact import Artifact
from onnxsmith.passes.quantization.detect import count_quantized
from onnxsmith.passes.quantization.fake_quantize import Trainable, make_trainable
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.run import quantize
from onnxsmith.pipeline.training.forms import Form, content, with_weights
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.selection import chosen_parameters, matches
from onnxsmith.runtime.memory import Array


@dataclass(frozen=True)
class QuantizedForm(Form):
    """Weights, biases and scales of a quantized model are trained; ``source`` is that model.

    Attributes:
        trainable: How they are written back.
    """

    trainable: Trainable = field(default_factory=Trainable)

    @classmethod
    def of(cls, artifact: Artifact, request: TrainRequest) -> QuantizedForm:
        """Quantize a float model as ``quantize --mode static`` does, and make it trainable.

        A model that is quantized already is trained with its own scales.

        Raises:
            SmithError: It cannot be quantized, or not be trained in that form.
        """
        source, originals = artifact, {}
        if not count_quantized(artifact.model):
            wanted = QuantizeRequest(
                mode="static",
                data=request.data,
                target=request.target,
                threads=request.threads,
                seed=request.seed,
            )
            source = quantize(artifact, wanted).artifact
            held = artifact.model.graph.initializers
            originals = {name: content(value) for name, value in held.items()}
        work = source.clone()
        trainable = make_trainable(work.model, originals)
        made = Artifact(work.model)
        names = list(chosen_parameters(made, request))
        names += [
            name
            for name in trainable.scales
            if name not in names
            and (not request.only or matches(name, request.only))
            and not matches(name, request.freeze)
        ]
        return cls(source, made, tuple(names), frozenset(trainable.scales), True, trainable)

    def export(self, weights: Mapping[str, Array]) -> Artifact:
        """Return the quantized model with what was trained."""
        plain = {n: a for n, a in weights.items() if n in self._own()}
        made = with_weights(self.source, plain)
        self.trainable.write_back(made.model, weights)
        return made

    def _own(self) -> set[str]:
        """Return what both forms hold as it is: floats that are not quantized."""
        replaced = {weight.trained for weight in self.trainable.weights}
        both = set(self.source.model.graph.initializers) & set(self.names)
        return both - replaced - set(self.trainable.scales)
