"""Layers that move values and compute none.

Source: BVLC Caffe, src/caffe/layers/*_layer.cpp of each name; Permute: its SSD branch;
ShuffleChannel: the ShuffleNet forks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from onnxsmith.pipeline.frontends.caffe.builder import Tensor
from onnxsmith.pipeline.frontends.caffe.dims import Dim, Dims, add, count, divide
from onnxsmith.pipeline.frontends.caffe.scope import INT64, Scope


def flatten(scope: Scope) -> Tensor:
    """Join the axes from ``axis`` to ``end_axis``."""
    bottom = scope.bottom()
    param = scope.param("flatten_param")
    if bottom.rank == 0:
        raise scope.refuse("its bottom has no axes", "mend the .prototxt")
    start = scope.axis(param.integer("axis", 1), bottom.rank)
    end = scope.axis(param.integer("end_axis", -1), bottom.rank)
    if end < start:
        raise scope.refuse(f"its end_axis {end} is before its axis {start}", "mend flatten_param")
    joined = count(bottom.dims[start : end + 1])
    return _reshaped(scope, bottom, (*bottom.dims[:start], joined, *bottom.dims[end + 1 :]))


def reshape(scope: Scope) -> Tensor:
    """Reshape where 0 keeps a size and -1 is found out, within ``num_axes`` from ``axis``."""
    bottom = scope.bottom()
    param = scope.param("reshape_param")
    written = param.message("shape").integers("dim")
    start = scope.axis(param.integer("axis", 0), bottom.rank, end=True)
    num_axes = param.integer("num_axes", -1)
    stop = bottom.rank if num_axes == -1 else start + num_axes
    if not start <= stop <= bottom.rank or written.count(-1) > 1 or min(written, default=0) < -1:
        raise scope.refuse(
            f"the dims {written} do not fit a blob of {bottom.rank} dimensions",
            "mend reshape_param",
        )
    inner = _target(scope, bottom.dims, start, stop, written)
    return _reshaped(scope, bottom, (*bottom.dims[:start], *inner, *bottom.dims[stop:]))


def permute(scope: Scope) -> Tensor:
    """Transpose; axes that are not named follow in order."""
    bottom = scope.bottom()
    order = scope.param("permute_param").sizes("order")
    order += [axis for axis in range(bottom.rank) if axis not in order]
    if sorted(order) != list(range(bottom.rank)):
        raise scope.refuse(f"{order} is no order of {bottom.rank} axes", "mend permute_param")
    if order == list(range(bottom.rank)):
        return bottom
    dims = tuple(bottom.dims[axis] for axis in order)
    return scope.op("Transpose", [bottom], dims, {"perm": order})


def concat(scope: Scope) -> Tensor:
    """Concat along one axis; constants (prior boxes) are joined here."""
    first = scope.bottom(1, len(scope.bottoms) or 1)
    param = scope.param("concat_param")
    axis = param.integer("axis", param.size("concat_dim", 1))
    param.values("concat_dim")
    axis = scope.axis(axis, first.rank)
    for other in scope.bottoms[1:]:
        ours, theirs = _without(first.dims, axis), _without(other.dims, axis)
        if ours != theirs:
            scope.known((*ours, *theirs))
            raise scope.refuse(
                f"its blobs differ on other axes than {axis}: {_text(first)} and {_text(other)}",
                "mend the .prototxt",
            )
    if len(scope.bottoms) == 1:
        return first
    size = add(bottom.dims[axis] for bottom in scope.bottoms) or scope.unknown()
    dims = (*first.dims[:axis], size, *first.dims[axis + 1 :])
    arrays = [bottom.constant for bottom in scope.bottoms if bottom.constant is not None]
    if len(arrays) == len(scope.bottoms):
        scope.check_constant(sum(array.size for array in arrays))
        return scope.constant(np.concatenate(arrays, axis), "joined")
    return scope.op("Concat", scope.bottoms, dims, {"axis": axis})


def slices(scope: Scope) -> list[Tensor]:
    """Split along one axis: at the given points, or into equal parts."""
    bottom = scope.bottom()
    param = scope.param("slice_param")
    axis = scope.axis(param.integer("axis", param.size("slice_dim", 1)), bottom.rank)
    param.values("slice_dim")
    points, tops = param.sizes("slice_point"), len(scope.layer.tops)
    if tops == 1:
        return [bottom]
    (size,) = scope.known(bottom.dims[axis : axis + 1])
    bounds = [0, *points, size] if points else [size * at // tops for at in range(tops + 1)]
    lengths = [end - start for start, end in pairwise(bounds)]
    if len(lengths) != tops or min(lengths) < 1 or (not points and size % tops):
        raise scope.refuse(
            f"{size} does not part into {tops} tops at {points or 'equal sizes'}",
            "mend slice_param",
        )
    dims = [(*bottom.dims[:axis], length, *bottom.dims[axis + 1 :]) for length in lengths]
    return scope.ops("Split", [bottom, scope.integers(lengths, "split")], dims, {"axis": axis})


def crop(scope: Scope) -> Tensor:
    """Slice the first bottom to the second's sizes from ``axis`` on, at the given offsets."""
    bottom = scope.bottom(2, 2)
    like = scope.bottoms[1]
    param = scope.param("crop_param")
    start = scope.axis(param.integer("axis", 2), bottom.rank)
    offsets = param.sizes("offset")
    axes = range(start, bottom.rank)
    if len(offsets) not in (0, 1, len(axes)) or like.rank != bottom.rank:
        raise scope.refuse(
            f"it has {len(offsets)} offsets for {len(axes)} axes, "
            f"and blobs of {bottom.rank} and {like.rank} dimensions",
            "mend crop_param",
        )
    offsets = (offsets or [0]) * (1 if len(offsets) == len(axes) else len(axes))
    have, want = scope.known(bottom.dims[start:]), scope.known(like.dims[start:])
    ends = [offset + size for offset, size in zip(offsets, want, strict=True)]
    if any(end > size for end, size in zip(ends, have, strict=True)):
        raise scope.refuse(
            f"{_text(bottom)} is too small to be cropped to {_text(like)}", "mend the offsets"
        )
    if have == want:
        return bottom
    return _slice(scope, bottom, offsets, ends, list(axes))


def tile(scope: Scope) -> Tensor:
    """Repeat along one axis."""
    bottom = scope.bottom()
    param = scope.param("tile_param")
    axis = scope.axis(param.integer("axis", 1), bottom.rank)
    tiles = param.size("tiles", 0)
    if tiles < 1:
        raise scope.refuse("its tiles is 0", "mend the .prototxt")
    repeats = [tiles if at == axis else 1 for at in range(bottom.rank)]
    dims = (*bottom.dims[:axis], count([bottom.dims[axis], tiles]), *bottom.dims[axis + 1 :])
    return scope.op("Tile", [bottom, scope.integers(repeats, "repeats")], dims)


def shuffle_channel(scope: Scope) -> Tensor:
    """Interleave groups of channels."""
    bottom = scope.bottom()
    group = scope.param("shuffle_channel_param").size("group", 1)
    if bottom.rank != 4:
        raise scope.refuse(f"it reads a blob of {bottom.rank} dimensions", "give it N x C x H x W")
    batch, channels, *spatial = bottom.dims
    (known,) = scope.known([channels])
    if not group or known % group:
        raise scope.refuse(f"{known} channels are no {group} groups", "mend group")
    split: Dims = (batch, group, known // group, *spatial)
    turned: Dims = (batch, known // group, group, *spatial)
    parted = scope.reshape(bottom, split)
    swapped = scope.op("Transpose", [parted], turned, {"perm": [0, 2, 1, 3, 4]})
    return scope.reshape(swapped, bottom.dims)


def batch_reindex(scope: Scope) -> Tensor:
    """Gather samples by number."""
    bottom = scope.bottom(2, 2)
    index = scope.bottoms[1]
    if index.rank != 1:
        raise scope.refuse(f"its numbers have {index.rank} dimensions", "give it one")
    numbers = scope.op("Cast", [index], index.dims, {"to": int(INT64)}, INT64)
    return scope.op("Gather", [bottom, numbers], (*index.dims, *bottom.dims[1:]))


def crop_borders(scope: Scope, tensor: Tensor, before: int, behind: int) -> Tensor:
    """Cut rows and columns off the two last axes."""
    sizes = scope.known(tensor.dims[2:])
    ends = [size - behind for size in sizes]
    if before < 0 or behind < 0 or any(end <= before for end in ends):
        raise scope.refuse(f"{sizes} cannot lose {before} and {behind}", "mend the pads")
    return _slice(scope, tensor, [before] * len(sizes), ends, [2, 3])


def _slice(
    scope: Scope, tensor: Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]
) -> Tensor:
    dims: list[Dim] = list(tensor.dims)
    for start, end, axis in zip(starts, ends, axes, strict=True):
        dims[axis] = end - start
    inputs = [
        tensor,
        scope.integers(starts, "starts"),
        scope.integers(ends, "ends"),
        scope.integers(axes, "axes"),
    ]
    return scope.op("Slice", inputs, tuple(dims))


def _target(scope: Scope, dims: Dims, start: int, stop: int, written: list[int]) -> Dims:
    found: list[Dim | None] = []
    for at, size in enumerate(written):
        if size == -1:
            found.append(None)
        elif size != 0:
            found.append(size)
        elif start + at < len(dims):
            found.append(dims[start + at])
        else:
            raise scope.refuse(f"there is no axis {start + at} to keep", "mend reshape_param")
    whole = count(dims[start:stop])
    is_batch = bool(found) and scope.batch is not None and found[0] == scope.batch
    if start == 0 and is_batch and not isinstance(dims[0], int):
        # The size of the file's own batch stands for any batch, if each sample keeps its values.
        kept = _fill(whole, [dims[0], *found[1:]])
        if kept is not None:
            return kept
    filled = _fill(whole, found)
    if filled is None:
        scope.known(dims)
        raise scope.refuse(
            f"{'x'.join(map(str, dims))} values do not take the shape {written}",
            "mend reshape_param, or the input's size",
        )
    return filled


def _fill(whole: Dim, target: list[Dim | None]) -> Dims | None:
    """Return the target with its one unknown found out, or None where it does not fit."""
    rest = count(dim for dim in target if dim is not None)
    missing = divide(whole, rest)
    if missing is None or (missing != 1 and None not in target):
        return None
    return tuple(missing if dim is None else dim for dim in target)


def _reshaped(scope: Scope, bottom: Tensor, dims: Dims) -> Tensor:
    scope.check(dims)
    if bottom.constant is not None:
        return scope.constant(bottom.constant.reshape(scope.known(dims)), "reshaped")
    if len(dims) == 2 and bottom.rank >= 2 and dims[0] == bottom.dims[0]:
        return scope.flatten(bottom, 1)
    return scope.reshape(bottom, dims)


def _without(dims: Dims, axis: int) -> Dims:
    return (*dims[:axis], *dims[axis + 1 :])


def _text(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.dims))
