"""``package.module:callable``: a user's own function that returns or yields batches."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.data.base import Array, Batch
from onnxsmith.pipeline.data.query import COMMON, Options
from onnxsmith.pipeline.loading import load_callable, user_code
from onnxsmith.spec import ModelSpec

_LABELS = ("y", "label", "labels", "target", "targets")
_END = object()
_FORMS = "yield arrays, (inputs, labels) pairs or dicts of arrays, samples along the first axis"


@dataclass(frozen=True)
class CallableReader:
    """Batches of a function called anew for every pass over the data.

    It may yield arrays, ``(inputs, labels)``, dicts of arrays (labels under ``labels``, ``label``
    or ``y``) or ``Batch``. Parameters called ``split`` and ``batch_size`` are given if it has them.

    Attributes:
        name: The name of the callable, for messages.
        function: The callable.
        label: The key of the labels in a dict, where the query names it.
        split: The split that the callable is asked for, if it has such a parameter.
        parameters: The names of its parameters.
    """

    keys: ClassVar[frozenset[str]] = COMMON

    name: str
    function: Callable[..., Any]
    label: str | None
    split: str | None
    parameters: frozenset[str]

    @classmethod
    def open(cls, location: str, options: Options, spec: ModelSpec | None) -> CallableReader:
        """Import the callable.

        Raises:
            SmithError: It cannot be imported.
        """
        function = load_callable(location)
        try:
            parameters = frozenset(inspect.signature(function).parameters)
        except (TypeError, ValueError):  # some built-in callables have no signature
            parameters = frozenset()
        split = options.split if "split" in parameters else None
        return cls(location, function, options.label, split, parameters)

    @property
    def size(self) -> None:
        """Unknown until all is read."""

    @property
    def classes(self) -> None:
        """Unknown."""

    @property
    def channel_axis(self) -> None:
        """Unknown: told from the shape where a layout is asked for."""

    def read(self, batch_size: int) -> Iterator[Batch]:
        """Call the function and yield its batches.

        Raises:
            SmithError: It raises an exception, or yields something that is no batch.
        """
        options: dict[str, object] = {}
        if self.split is not None:
            options["split"] = self.split
        if "batch_size" in self.parameters:
            options["batch_size"] = batch_size
        with user_code(f"calling {self.name!r}"):
            returned = self.function(**options)
            if isinstance(returned, np.ndarray | tuple | Mapping | Batch):
                returned = [returned]
            if not isinstance(returned, Iterable):
                raise SmithError(
                    f"{self.name!r} returned something of type {type(returned).__name__}, "
                    "not batches",
                    _FORMS,
                )
            iterator = iter(returned)
        names: tuple[frozenset[str], bool] | None = None
        while True:
            with user_code(f"iterating over {self.name!r}"):
                item = next(iterator, _END)
                if item is _END:
                    return
                batch = self._batch(item)
            found = frozenset(batch.inputs), batch.labels is not None
            if names is not None and found != names:
                raise SmithError(f"{self.name!r} yields batches of different kinds", _FORMS)
            names = found
            yield batch

    def _batch(self, item: object) -> Batch:
        if isinstance(item, Batch):
            batch = item
        elif isinstance(item, Mapping):
            batch = self._from_mapping(item)
        elif isinstance(item, tuple | list) and len(item) == 2:
            inputs, labels = item
            named = inputs if isinstance(inputs, Mapping) else {"x": inputs}
            arrays = {str(key): _array(value) for key, value in named.items()}
            batch = Batch(arrays, None if labels is None else _array(labels))
        elif isinstance(item, tuple | list):
            raise SmithError(f"{self.name!r} yields a sequence of {len(item)} items", _FORMS)
        else:
            batch = Batch({"x": _array(item)})
        self._check(batch)
        return batch

    def _from_mapping(self, item: Mapping[Any, Any]) -> Batch:
        arrays = {str(key): _array(value) for key, value in item.items()}
        if self.label is not None and self.label not in arrays:
            raise SmithError(
                f"{self.name!r} yields no {self.label!r} for the labels",
                f"it yields: {', '.join(sorted(arrays))}",
            )
        key = self.label or next((name for name in _LABELS if name in arrays), None)
        return Batch(arrays, None if key is None else arrays.pop(key))

    def _check(self, batch: Batch) -> None:
        arrays = [*batch.inputs.values(), *([] if batch.labels is None else [batch.labels])]
        if not batch.inputs or any(array.ndim == 0 for array in arrays):
            raise SmithError(f"{self.name!r} yields a batch without a first axis", _FORMS)
        if len({len(array) for array in arrays}) > 1:
            raise SmithError(
                f"{self.name!r} yields arrays of different lengths in one batch", _FORMS
            )


def _array(value: object) -> Array:
    array = np.asarray(value)
    if array.dtype.hasobject and not all(isinstance(item, str) for item in array.flat):
        raise SmithError(
            f"a value of type {type(value).__name__} is no array of numbers or text", _FORMS
        )
    return array
