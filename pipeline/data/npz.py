"""``npz:FILE``: arrays by name, streamed from a numpy archive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.data.archive import open_archive
from onnxsmith.pipeline.data.base import Batch
from onnxsmith.pipeline.data.files import find_file
from onnxsmith.pipeline.data.npy import Member
from onnxsmith.pipeline.data.query import COMMON, Options
from onnxsmith.spec import ModelSpec

_LABELS = ("y", "label", "labels", "target", "targets")
_SPLITS = ("train", "test")


@dataclass(frozen=True)
class NpzReader:
    """Inputs are the arrays as named; labels the one called y, label, labels or target.

    Archives with ``x_train``, ``y_train``, ``x_test``, ``y_test`` come in splits: the ending is
    then left off the names.

    Attributes:
        path: The archive.
        inputs: The arrays of the inputs: name as given on, name in the archive.
        label: The array of the labels in the archive, if any.
        split: The split, where the archive comes in splits.
        size: The number of samples.
    """

    keys: ClassVar[frozenset[str]] = COMMON

    path: Path
    inputs: Mapping[str, str]
    label: str | None
    split: str | None
    size: int

    @classmethod
    def open(cls, location: str, options: Options, spec: ModelSpec | None) -> NpzReader:
        """Read the headers of the archive.

        Raises:
            SmithError: It is no archive of arrays, or their lengths differ.
        """
        path = find_file(location, "npz")
        with open_archive(path) as (_, members):
            split = _choose_split(members, options.split)
            names = _names_of_split(members, split)
            label = _choose_label(names, options.label, spec, path.name)
            inputs = {short: full for short, full in names.items() if full != label}
            inputs = _wanted(inputs, options, spec)
            return cls(
                path, inputs, label, split, _common_length(members, inputs, label, path.name)
            )

    @property
    def classes(self) -> None:
        """Unknown: an archive does not name them."""

    @property
    def channel_axis(self) -> None:
        """Unknown: told from the shape where a layout is asked for."""

    def read(self, batch_size: int) -> Iterator[Batch]:
        """Yield the samples in order.

        Raises:
            SmithError: The archive is damaged, or was replaced by another.
        """
        with open_archive(self.path) as (archive, members):
            chosen = [*self.inputs.values(), *([self.label] if self.label else [])]
            if any(name not in members for name in chosen):
                raise SmithError(f"{self.path.name!r} changed while it was used", "start again")
            streams = [members[name].rows(archive, batch_size) for name in chosen]
            for arrays in zip(*streams, strict=True):
                labels = arrays[-1] if self.label else None
                yield Batch(dict(zip(self.inputs, arrays, strict=False)), labels)


def _choose_split(members: Mapping[str, Member], asked: str | None) -> str | None:
    present = [split for split in _SPLITS if any(name.endswith(f"_{split}") for name in members)]
    if not present or any(not name.endswith(tuple(f"_{s}" for s in _SPLITS)) for name in members):
        return None
    split = asked or present[0]
    if split not in present:
        raise SmithError(f"the archive has no split {split!r}", f"its splits: {', '.join(present)}")
    return split


def _names_of_split(members: Mapping[str, Member], split: str | None) -> dict[str, str]:
    """Return the arrays of the split: short name to full name."""
    if split is None:
        return {name: name for name in members}
    ending = f"_{split}"
    return {name.removesuffix(ending): name for name in members if name.endswith(ending)}


def _choose_label(
    names: Mapping[str, str], asked: str | None, spec: ModelSpec | None, source: str
) -> str | None:
    if asked is not None:
        if asked not in names:
            raise SmithError(
                f"{source!r} has no array {asked!r} for the labels",
                f"its arrays: {', '.join(sorted(names)) or 'none'}",
            )
        return names[asked]
    taken = {value.name for value in spec.inputs} if spec is not None else set()
    return next((names[name] for name in _LABELS if name in names and name not in taken), None)


def _wanted(inputs: Mapping[str, str], options: Options, spec: ModelSpec | None) -> dict[str, str]:
    """Leave out the arrays that the model does not take, where it takes others by name."""
    if spec is not None and all(value.name in inputs for value in spec.inputs):
        return {value.name: inputs[value.name] for value in spec.inputs}
    if spec is not None and len(spec.inputs) == 1 and options.input in inputs:
        return {str(options.input): inputs[str(options.input)]}
    return dict(inputs)


def _common_length(
    members: Mapping[str, Member], inputs: Mapping[str, str], label: str | None, source: str
) -> int:
    if not inputs:
        raise SmithError(f"{source!r} has no array for the inputs", "save them beside the labels")
    names = [*inputs.values(), *([label] if label else [])]
    lengths: dict[str, int] = {}
    for name in names:
        shape = members[name].shape
        if not shape:
            raise SmithError(
                f"the array {name!r} of {source!r} is a single value",
                "the first axis of each array counts samples",
            )
        lengths[name] = shape[0]
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise SmithError(
            f"the arrays of {source!r} have different lengths: {text}",
            "the first axis of each array counts samples",
        )
    return lengths[names[0]]
