"""The gradient of Einsum: Einsums with the operand and the result in each other's place.

Source: Einsum of ONNX.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients
from onnxsmith.passes.autodiff.writer import BOOL, INT64, rank_of
from onnxsmith.passes.match import same_dim


@dataclass(frozen=True)
class Equation:
    """An equation with a letter for every dimension.

    Attributes:
        terms: The letters of each operand.
        result: The letters of the result.
        broadcast: The letters that stand for ``...``, along which operands may be of size one.
    """

    terms: list[str]
    result: str
    broadcast: str


def einsum(b: Backward) -> Gradients:
    """``dX_i`` is the Einsum of the gradient and all other operands, to the letters of ``X_i``.

    Letters that only this operand has were summed over: the gradient is the same along them. Of a
    letter that it has twice, the gradient is on the diagonal.
    """
    equation = _parse(b)
    return [
        _operand(b, equation, index) if b.needs[index] else None
        for index in range(len(b.node.inputs))
    ]


def _parse(b: Backward) -> Equation:
    text = b.string("equation", "").replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if not arrow:
        letters = sorted(c for c in set(left) if c.isalpha() and left.count(c) == 1)
        right = ("..." if "..." in left else "") + "".join(letters)
    spare = [c for c in string.ascii_letters if c not in text]
    hidden = [rank_of(b.x(i)) - len(t.replace("...", "")) for i, t in enumerate(terms)]
    count = max((n for n, t in zip(hidden, terms, strict=True) if "..." in t), default=0)
    broadcast = "".join(spare[:count])
    named = [
        term.replace("...", broadcast[count - n :]) for term, n in zip(terms, hidden, strict=True)
    ]
    return Equation(named, right.replace("...", broadcast), broadcast)


def _operand(b: Backward, equation: Equation, index: int) -> ir.Value:
    w, x, term = b.write, b.x(index), equation.terms[index]
    others = [equation.result, *(t for i, t in enumerate(equation.terms) if i != index)]
    values = [b.grad, *(b.x(i) for i in range(len(equation.terms)) if i != index)]
    known = set("".join(others))
    present = "".join(c for c in dict.fromkeys(term) if c in known)
    text = f"{','.join(others)}->{present}"
    value = w.op("Einsum", *values, attributes={"equation": text})
    repeated = [place for place, c in enumerate(term) if c in term[:place]]
    missing = [place for place, c in enumerate(term) if c not in known and place not in repeated]
    if missing or repeated:
        value = w.op("Unsqueeze", value, w.ints(sorted([*missing, *repeated])))
    for place in repeated:
        value = w.op("Mul", value, _diagonal(b, x, term.index(term[place]), place))
    if missing:
        value = w.op("Expand", value, w.shape_of(x))
    return w.sum_to_at_run_time(value, x) if _may_be_narrow(b, equation, index) else value


def _diagonal(b: Backward, x: ir.Value, first: int, second: int) -> ir.Value:
    """Return ones where two dimensions of an operand have the same place."""
    w, rank = b.write, rank_of(x)
    size = w.op("Squeeze", w.size_of(x, first), w.ints([0]))
    places = w.op("Range", w.integer(0), size, w.integer(1), dtype=INT64)
    sides = [
        w.op("Reshape", places, w.ints([-1 if axis == own else 1 for axis in range(rank)]))
        for own in (first, second)
    ]
    return w.cast(w.op("Equal", *sides, dtype=BOOL), b.grad.dtype)


def _may_be_narrow(b: Backward, equation: Equation, index: int) -> bool:
    """Tell whether an operand may have been broadcast along a dimension of ``...``."""
    if not set(equation.broadcast) & set(equation.terms[index]):
        return False
    sizes = {c: (b.x(index).shape or ())[i] for i, c in enumerate(equation.terms[index])}
    for other, term in enumerate(equation.terms):
        for place, c in enumerate(term):
            if c in equation.broadcast and c in sizes:
                size = (b.x(other).shape or ())[place]
                if not same_dim(size, sizes[c]):
                    return True
    return len([c for c in equation.terms[index] if c in equation.broadcast]) < len(
        equation.broadcast
    )
