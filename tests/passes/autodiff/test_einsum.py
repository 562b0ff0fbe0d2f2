"""Gradients of Einsum, against central differences of ONNX's reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.autodiff.checking import check_gradients, model_of

RNG = np.random.default_rng(53)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", ((2, 3), (3, 4))),
        ("bij,bjk->bik", ((2, 2, 3), (2, 3, 2))),
        ("bhid,bhjd->bhij", ((1, 2, 2, 3), (1, 2, 3, 3))),
        ("ij,jk", ((2, 3), (3, 2))),
        ("i,j->ij", ((2,), (3,))),
        ("i,i->", ((3,), (3,))),
        ("ij->ji", ((2, 3),)),
        ("ij->i", ((2, 3),)),
        ("ij->", ((2, 3),)),
        ("ii->i", ((3, 3),)),
        ("ii->", ((3, 3),)),
        ("iij,j->i", ((2, 2, 3), (3,))),
        ("ij,k->i", ((2, 3), (4,))),
        ("...ij,...jk->...ik", ((2, 2, 3), (2, 3, 2))),
        ("...ij,jk->...ik", ((2, 2, 3), (3, 2))),
        ("... i j , ... j k -> ... i k", ((2, 1, 2, 3), (1, 2, 3, 2))),
        ("b...i,i->b...", ((2, 2, 3), (3,))),
        ("ij,jk,kl->il", ((2, 3), (3, 2), (2, 2))),
        ("aB,Bc->ac", ((2, 3), (3, 2))),
    ],
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_einsum(equation: str, shapes: tuple[tuple[int, ...], ...], dynamic: bool) -> None:
    names = "abc"[: len(shapes)]
    feeds = {n: RNG.normal(size=s).astype(np.float32) for n, s in zip(names, shapes, strict=True)}
    result = np.einsum(equation.replace(" ", ""), *feeds.values())
    kinds = [
        ", ".join(f"{name}{i}" if dynamic else str(size) for i, size in enumerate(shape))
        for name, shape in zip(names, shapes, strict=True)
    ]
    given = ", ".join(f"float[{kind}] {name}" for kind, name in zip(kinds, names, strict=True))
    after = ", ".join(f"r{i}" if dynamic else str(size) for i, size in enumerate(result.shape))
    kind = f"float[{after}]" if after else "float"
    text = (
        f"g ({given}) => ({kind} y) {{"
        f't = Einsum <equation = "{equation}"> ({", ".join(names)}) y = Mul(t, t) }}'
    )
    check_gradients(model_of(text), feeds, list(names), double=not dynamic)
