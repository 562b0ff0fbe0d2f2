"""The contract of a pass."""

from __future__ import annotations

import abc
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_type_hints

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.plugins import suggestion
from onnxsmith.runtime.session import Session
from onnxsmith.spec import ModelSpec
from onnxsmith.target import TARGETS, Target

Effect = Literal["exact", "approximate", "lossy"]

Samples = Callable[[], Iterator[dict[str, np.ndarray[Any, Any]]]]
"""Starts a new stream of feeds; each call begins at the first sample."""

Metric = Callable[[Session], float]
"""Scores a running model; higher is better."""


Values = Mapping[str, Any]
"""Inputs or outputs of a run by name."""


def _same(values: Values) -> Values:
    return values


@dataclass(frozen=True)
class Conversion:
    """How to compare a model with one whose signature a pass changed.

    Attributes:
        feeds: Turns inputs of the old model into those of the new one.
        back: Turns inputs of the new model into those of the old one.
        outputs: Turns outputs of the old model into what the new one should give.
        drops_inputs: Whether the new model may have fewer inputs.
    """

    feeds: Callable[[Values], Values] = _same
    back: Callable[[Values], Values] = _same
    outputs: Callable[[Values], Values] = _same
    drops_inputs: bool = False


@dataclass(frozen=True)
class PassContext:
    """What a pass may need from outside.

    Attributes:
        target: Where the model will run.
        samples: Feeds to calibrate with.
        synthetic: Whether these are made up, and say nothing about real ones.
        metric: The user's score of a model; higher is better.
        max_drop: How much of the metric may be lost.
        seed: Seed of all randomness.
    """

    target: Target = TARGETS["cpu"]
    samples: Samples | None = None
    synthetic: bool = False
    metric: Metric | None = None
    max_drop: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class PassResult:
    """What a pass did.

    Attributes:
        model: The model it was given, edited, or a new one.
        modified: Whether anything changed.
        details: Figures for the history and the report; JSON values.
    """

    model: ir.Model
    modified: bool
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pass(abc.ABC):
    """A rewrite of a model; its dataclass fields are its options.

    Class attributes:
        name: The name on the command line, kebab-case.
        effect: ``exact`` must meet the element type's tolerance; ``approximate`` and ``lossy``
            a metric's budget, or are reported.
        needs: Fields of :class:`PassContext` that must be there (``samples``).
    """

    name: ClassVar[str]
    effect: ClassVar[Effect] = "exact"
    needs: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Edit ``model`` or return a new one; deterministic, tensors are never edited in place."""

    def signature(self, spec: ModelSpec) -> ModelSpec:
        """Return the signature that the pass gives a model of this one; most keep it.

        Raises:
            SmithError: The pass cannot serve a model of this signature.
        """
        return spec

    def conversion(self, spec: ModelSpec) -> Conversion:
        """Return how values of this signature become values of the one that the pass gives."""
        return Conversion()

    def options(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        }

    def __str__(self) -> str:
        """Return the pass as the command line takes it."""
        words = [f"{key.replace('_', '-')}={_text(value)}" for key, value in self.options().items()]
        return ":".join([self.name, *words])

    def check_context(self, context: PassContext) -> None:
        """Refuse a context that lacks what the pass needs.

        Raises:
            SmithError: Naming what is missing.
        """
        for name in self.needs:
            if getattr(context, name) is None:
                option = {"samples": "--data", "metric": "--metric"}.get(name, name)
                raise SmithError(f"the pass {self.name!r} needs {name}", f"give {option}")

    @classmethod
    def from_options(cls, texts: Mapping[str, str]) -> Pass:
        """Build the pass from option texts.

        Raises:
            UsageError: An option is unknown or its value does not fit.
        """
        hints = get_type_hints(cls)
        known = {f.name.replace("_", "-"): f.name for f in dataclasses.fields(cls)}
        values = {}
        for option, text in texts.items():
            if option not in known:
                raise UsageError(
                    f"the pass {cls.name!r} has no option {option!r}",
                    suggestion(option, list(known)) if known else "it has no options",
                )
            values[known[option]] = _parse(cls.name, option, text, hints[known[option]])
        return cls(**values)

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the class's docstring."""
        return (inspect.getdoc(cls) or "").partition("\n")[0]


def _parse(owner: str, option: str, text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() in ("true", "1", "yes", "on"):
            return True
        if text.lower() in ("false", "0", "no", "off"):
            return False
    elif kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass  # falls through to the one error message below
    elif kind is str:
        return text
    elif kind == tuple[str, ...]:
        return tuple(part for part in text.split("+") if part)
    elif getattr(kind, "__origin__", None) is Literal:
        if text in kind.__args__:
            return text
        raise UsageError(
            f"{owner}: {option}={text!r} is not one of {', '.join(kind.__args__)}",
            f"see 'onnxsmith passes show {owner}'",
        )
    name = getattr(kind, "__name__", str(kind))
    raise UsageError(
        f"{owner}: {option}={text!r} is not a value of type {name}",
        f"see 'onnxsmith passes show {owner}'",
    )


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
