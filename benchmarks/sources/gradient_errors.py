"""How far gradients of networks in PyTorch are from those in float64.

Each side is compared with float64 on the pieces that its own run in float32 took at the corners of
Relu, Relu6 and maximum pooling: what is left is rounding, and no input has to be chosen.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import nn

from onnxsmith.artifact import Artifact
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.passes.autodiff.training_form import train_batch_norm
from onnxsmith.runtime.session import Session
from sources.corners import Corner, Pieces, cornered, differing

Array = np.ndarray[Any, Any]
Pair = tuple[float, float]
"""Of onnxsmith and of torch, both in float32."""


@dataclass(frozen=True)
class Errors:
    """How far gradients are from torch's in float64, of onnxsmith and of torch in float32.

    An error is the length of the difference, divided by that of the gradient.

    Attributes:
        whole: The error of all parameters together, float64 on the side's own pieces.
        worst: The largest error of one parameter's gradient, so measured. Gradients that are
            rounding alone are left out: below 1e-4 of the longest.
        plain: As ``whole``, float64 on the pieces that float64 takes.
        turned: How many elements are on the other side of a corner than in float64.
        parameters: How many were compared.
    """

    whole: Pair
    worst: Pair
    plain: Pair
    turned: tuple[int, int]
    parameters: int

    @property
    def ok(self) -> bool:
        """Whether ``whole`` and ``worst`` of onnxsmith are at most 1e-5, or twice torch's."""
        pairs = (self.whole, self.worst)
        return all(ours <= max(1e-5, 2 * theirs) for ours, theirs in pairs)


class _Loss(nn.Module):
    """Cross-entropy with soft labels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return -(self.network(x).log_softmax(-1) * labels).sum(-1).mean()


class Comparison:
    """A network's gradients for all parameters, batch normalization in training.

    Args:
        network: Gives scores, the classes last.
        x: What it is given, for example.
        threads: How many threads the runtime may use.

    Attributes:
        corners: What goes into the model's functions with corners.
    """

    def __init__(self, network: nn.Module, x: torch.Tensor, threads: int = 4) -> None:
        self._loss = _Loss(network)
        with torch.no_grad():
            scores = copy.deepcopy(network).eval()(x)
        noise = torch.randn(scores.shape, generator=torch.manual_seed(1))
        self._labels = torch.softmax(noise, -1)
        model = _exported(self._loss, (x, self._labels))
        shared: dict[nn.Parameter, list[str]] = {}
        for name, parameter in self._loss.named_parameters(remove_duplicate=False):
            shared.setdefault(parameter, []).append(name)
        known = model.model.graph.initializers
        self._groups = [[name for name in names if name in known] for names in shared.values()]
        assert all(self._groups), "the exporter renamed a parameter"
        train_batch_norm(model.model)
        every = [name for group in self._groups for name in group]
        self.corners = cornered(model.model.graph)
        made = gradients(model, model.spec.outputs[0].name, every).model
        produced = {value.name: value for node in made.graph for value in node.outputs}
        shown = dict.fromkeys(produced[name] for name, _ in self.corners)
        made.graph.outputs.extend(value for value in shown if not value.is_graph_output())
        self._session = Session(Artifact(made), threads=threads)

    def __enter__(self) -> Comparison:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session.close()

    def errors(self, x: torch.Tensor) -> Errors:
        """Return the errors at an input."""
        theirs, their_pieces = self._autograd(x, torch.float32)
        ours, our_pieces = self._ours(x, their_pieces)
        exact, pieces = self._autograd(x, torch.float64)
        sides = [ours, theirs]
        own = [self._autograd(x, torch.float64, took)[0] for took in (our_pieces, their_pieces)]
        lengths = _lengths(exact)
        counted = [place for place, length in enumerate(lengths) if length > 1e-4 * max(lengths)]
        parted = [_apart(side, there) for side, there in zip(sides, own, strict=True)]
        return Errors(
            _both(_total(side, there) for side, there in zip(sides, own, strict=True)),
            _both(max(side[place] for place in counted) for side in parted),
            _both(_total(side, exact) for side in sides),
            (differing(our_pieces, pieces), differing(their_pieces, pieces)),
            len(counted),
        )

    def _ours(self, x: torch.Tensor, known: list[Corner]) -> tuple[list[Array], list[Corner]]:
        """Return the runtime's gradients, and the pieces that it took."""
        first, second = (value.name for value in self._session.spec.inputs)
        found = self._session.run({first: x.numpy(), second: self._labels.numpy()})
        gradients = [
            np.sum([found[f"{name}_gradient"].astype(np.float64) for name in group], axis=0)
            for group in self._groups
        ]
        given = [
            torch.from_numpy(found[name]).clamp(0.0 if rectified else -torch.inf)
            for name, rectified in self.corners
        ]
        taken = [corner.of(value) for corner, value in zip(known, given, strict=True)]
        return gradients, taken

    def _autograd(
        self, x: torch.Tensor, dtype: torch.dtype, imposed: list[Corner] | None = None
    ) -> tuple[list[Array], list[Corner]]:
        """Return torch's gradients, and the pieces that it takes unless they are imposed."""
        copied = copy.deepcopy(self._loss).to(dtype).train()
        given = x.to(dtype) if x.is_floating_point() else x
        with Pieces(imposed) as pieces:
            loss = copied(given, self._labels.to(dtype))
        loss.backward()
        made = [
            np.zeros(tuple(p.shape)) if p.grad is None else p.grad.double().numpy()
            for p in copied.parameters()
        ]
        return made, pieces.corners


def compare(network: nn.Module, x: torch.Tensor) -> Errors:
    """Return the errors of a network's gradients at an input."""
    with Comparison(network, x) as comparison:
        return comparison.errors(x)


def _lengths(gradients: list[Array]) -> list[float]:
    return [float(np.linalg.norm(gradient)) for gradient in gradients]


def _apart(side: list[Array], exact: list[Array]) -> list[float]:
    """Return the error of each parameter's gradient."""
    pairs = zip(_away(side, exact), _lengths(exact), strict=True)
    return [away / length if length else 0.0 for away, length in pairs]


def _total(side: list[Array], exact: list[Array]) -> float:
    """Return the error of all gradients together."""
    return float(np.linalg.norm(_away(side, exact)) / np.linalg.norm(_lengths(exact)))


def _away(side: list[Array], exact: list[Array]) -> list[float]:
    return _lengths([a - e for a, e in zip(side, exact, strict=True)])


def _both(pair: Iterable[float]) -> Pair:
    ours, theirs = pair
    return ours, theirs


def _exported(loss: nn.Module, example: tuple[torch.Tensor, ...]) -> Artifact:
    """Export a loss for inference, nothing folded."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = Path(folder, "loss.onnx")
        torch.onnx.export(
            copy.deepcopy(loss).eval(), example, target, dynamo=True, optimize=False,
            verbose=False, external_data=False, opset_version=20,
        )  # fmt: skip
        return Artifact.from_proto(Artifact.load(target).to_proto())
