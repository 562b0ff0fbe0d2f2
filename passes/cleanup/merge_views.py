"""Replace chains of reshapes and transposes by shorter ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import add_constant, bypass, is_op, made_by, replace, same_dim
from onnxsmith.passes.views import Atom, Size, View, merge_atoms, trace

_MOVES = ("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_FIRST_OPSET = 5  # from which on a Reshape's target is an input


@dataclass(frozen=True)
class MergeViews(Pass):
    """Replace chains of reshapes and transposes by shorter ones.

    Each dimension at the end of a chain is a product of factors of the dimensions at its start. So
    the chain is nothing where the factors come in their first order and in the first dimensions,
    one Reshape where they come in their order, else one Transpose between two Reshapes, either of
    which may be nothing.

    Shapes should be inferred. What is left alone: chains that would not become shorter, as those
    whose inner values are read elsewhere; sizes that are not known, but for one a Reshape.
    """

    name: ClassVar[str] = "merge-views"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Merge in the graph and its subgraphs."""
        count = 0
        for graph in model.graphs() if (model.opset_imports.get("") or 0) >= _FIRST_OPSET else ():
            for node in reversed(list(graph)):
                count += merge_views(node)
        return PassResult(model, bool(count), {"merged": count})


def merge_views(last: ir.Node) -> bool:
    """Make the chain that ends at a node shorter, if it is one and that is possible."""
    if not is_op(last, *_MOVES):
        return False
    chain = _private_chain(last)  # the longest is tried first
    for length in range(len(chain), 1, -1):
        source = chain[length - 1].inputs[0]
        view = trace(last.outputs[0], length)
        if source is None or view is None or view.root is not source or source.shape is None:
            continue
        steps = _steps(view, last.outputs[0])
        if steps is not None and len(steps) < length:
            return _put(last, source, steps)
    return False


def _private_chain(last: ir.Node) -> list[ir.Node]:
    """Return the nodes up to here, last to first, each the only reader of the one before."""
    chain = [last]
    while (node := made_by(chain[-1].inputs[0], *_MOVES)) is not None:
        value = node.outputs[0]
        if len(value.uses()) != 1 or value.is_graph_output() or node.graph is not last.graph:
            break
        chain.append(node)
    return chain


Step = tuple[str, list[int], list[Size]]
"""Reshape or Transpose, its target or permutation, and the shape of what it makes."""


def _steps(view: View, result: ir.Value) -> list[Step] | None:
    """Return the shortest way from the root to a view that has all its elements."""
    if result.shape is None or view.root.shape is None or any(view.starts):
        return None
    root, shape = list(view.root.shape), list(result.shape)
    atoms = merge_atoms([atom for dim in view.dims for atom in dim])
    ordered = sorted(atoms, key=lambda atom: (atom.axis, -atom.stride))
    whole = [Atom(size, axis, 1) for axis, size in enumerate(root) if size != 1]
    if list(merge_atoms(ordered)) != whole:
        return None  # it is a part only
    if list(atoms) == ordered:
        return _reshaped(root, shape)
    perm = _permutation(view, root)
    if perm is not None:
        return [("Transpose", perm, shape)]
    moved = [atom.size for atom in atoms]
    before, after = _reshaped(root, [atom.size for atom in ordered]), _reshaped(moved, shape)
    if before is None or after is None:
        return None
    return [*before, ("Transpose", [ordered.index(atom) for atom in atoms], moved), *after]


def _permutation(view: View, root: list[Size]) -> list[int] | None:
    """Return the order of the root's dimensions in a view that splits none of them."""
    dims = [merge_atoms(dim) for dim in view.dims]
    if len(dims) != len(root) or any(len(dim) > 1 for dim in dims):
        return None
    ones = iter([axis for axis, size in enumerate(root) if size == 1])
    return [dim[0].axis if dim else next(ones) for dim in dims]


def _reshaped(given: list[Size], wanted: list[Size]) -> list[Step] | None:
    """Return the Reshape from one shape to another: none where they are the same."""
    same = [same_dim(a, b) for a, b in zip(given, wanted, strict=False)]
    if len(given) == len(wanted) and all(same):
        return []
    target = [
        size if isinstance(size, int) else 0 if axis < len(same) and same[axis] else -1
        for axis, size in enumerate(wanted)
    ]
    return None if target.count(-1) > 1 or 0 in wanted else [("Reshape", target, wanted)]


def _put(last: ir.Node, source: ir.Value, steps: list[Step]) -> bool:
    graph = last.graph
    assert graph is not None  # is_op() says so
    if not steps:
        return bypass(last, source)
    for place, (kind, numbers, shape) in enumerate(steps):
        if kind == "Transpose":
            node = ir.node(kind, [source], {"perm": numbers})
        else:
            target = np.array(numbers, np.int64)
            name = f"{last.outputs[0].name}/shape"
            node = ir.node(kind, [source, add_constant(graph, target, name)])
        result = node.outputs[0]
        if place == len(steps) - 1:
            replace(last, node)
            return True
        result.type, result.shape = source.type, ir.Shape(shape)
        graph.insert_before(last, node)
        source = result
    return False
