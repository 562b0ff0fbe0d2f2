"""Operators on single elements, against numpy and scipy's definitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError

Array = np.ndarray[Any, Any]
VALUES = np.array([[-2.7, -1.5, -1.2, -0.5, -0.3], [0.4, 0.5, 0.9, 1.5, 2.5]], np.float32)
INSIDE = VALUES / 3
ABOVE = np.abs(VALUES) + 1
ERF = np.vectorize(math.erf)

UNARY: dict[str, tuple[Array, Callable[[Array], Array]]] = {
    "abs": (VALUES, np.abs),
    "arccos": (INSIDE, np.arccos),
    "arccosh": (ABOVE, np.arccosh),
    "arcsin": (INSIDE, np.arcsin),
    "arcsinh": (VALUES, np.arcsinh),
    "arctan": (VALUES, np.arctan),
    "arctanh": (INSIDE, np.arctanh),
    "cbrt": (VALUES, np.cbrt),
    "ceil": (VALUES, np.ceil),
    "cos": (VALUES, np.cos),
    "cosh": (VALUES, np.cosh),
    "degrees": (VALUES, np.degrees),
    "erf": (VALUES, ERF),
    "exp": (VALUES, np.exp),
    "expm1": (VALUES, np.expm1),
    "fix": (VALUES, np.fix),
    "floor": (VALUES, np.floor),
    "log": (ABOVE, np.log),
    "log10": (ABOVE, np.log10),
    "log1p": (ABOVE, np.log1p),
    "log2": (ABOVE, np.log2),
    "logical_not": (np.round(VALUES), lambda x: (x == 0).astype(np.float32)),
    "negative": (VALUES, np.negative),
    "radians": (VALUES, np.radians),
    "rcbrt": (VALUES, lambda x: 1 / np.cbrt(x)),
    "reciprocal": (VALUES, lambda x: 1 / x),
    "relu": (VALUES, lambda x: np.maximum(x, 0)),
    "rint": (VALUES, lambda x: np.where(x - np.floor(x) <= 0.5, np.floor(x), np.ceil(x))),
    "round": (VALUES, lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5)),
    "rsqrt": (ABOVE, lambda x: 1 / np.sqrt(x)),
    "sigmoid": (VALUES, lambda x: 1 / (1 + np.exp(-x))),
    "sign": (VALUES, np.sign),
    "sin": (VALUES, np.sin),
    "sinh": (VALUES, np.sinh),
    "softsign": (VALUES, lambda x: x / (1 + np.abs(x))),
    "sqrt": (ABOVE, np.sqrt),
    "square": (VALUES, np.square),
    "tan": (VALUES, np.tan),
    "tanh": (VALUES, np.tanh),
    "trunc": (VALUES, np.trunc),
    "log_sigmoid": (VALUES, lambda x: -np.log1p(np.exp(-x))),
    "_npx_relu": (VALUES, lambda x: np.maximum(x, 0)),
    "_npx_sigmoid": (VALUES, lambda x: 1 / (1 + np.exp(-x))),
    "_npx_erf": (VALUES, ERF),
    "_contrib_round_ste": (VALUES, lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5)),
    "_contrib_sign_ste": (VALUES, np.sign),
}
IDENTITIES = [
    "_copy",
    "identity",
    "BlockGrad",
    "stop_gradient",
    "make_loss",
    "MakeLoss",
    "Dropout",
    "_npx_dropout",
    "_CrossDeviceCopy",
    "_copyto",
    "IdentityAttachKLSparseReg",
    "_contrib_gradientmultiplier",
    "cast_storage",
]


@pytest.mark.parametrize("op", UNARY)
def test_functions_of_one_array(mxnet: Any, close: Any, op: str) -> None:
    x, function = UNARY[op]
    close(mxnet.op(op, {}, x), function(x.astype(np.float64)), 2e-6)


def test_small_numbers_keep_their_digits(mxnet: Any) -> None:
    x = np.array([1e-6, -3e-5, 1e-3], np.float32)
    np.testing.assert_allclose(mxnet.op("expm1", {}, x), np.expm1(x), rtol=1e-6)


@pytest.mark.parametrize("op", IDENTITIES)
def test_what_only_training_does(mxnet: Any, op: str) -> None:
    np.testing.assert_array_equal(mxnet.op(op, {"p": 0.5}, VALUES), VALUES)


def test_the_attributes_of_another(mxnet: Any) -> None:
    other = np.zeros((2, 5), np.float32)
    path = mxnet.write(
        [
            ("null", "x", {}, []),
            ("null", "other", {}, []),
            ("_identity_with_attr_like_rhs", "it", {}, [0, 1]),
        ],
        [2],
        {"other": other},
    )
    found = mxnet.run(path, {"x": VALUES})
    np.testing.assert_array_equal(found["it_output"], VALUES)


def boolean(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda x, y: np.asarray(function(x, y)).astype(np.float32)


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "mod": np.mod,
    "power": lambda x, y: np.power(np.abs(x), y),
    "maximum": np.maximum,
    "minimum": np.minimum,
    "hypot": np.hypot,
    "equal": boolean(np.equal),
    "not_equal": boolean(np.not_equal),
    "greater": boolean(np.greater),
    "greater_equal": boolean(np.greater_equal),
    "lesser": boolean(np.less),
    "lesser_equal": boolean(np.less_equal),
    "logical_and": boolean(np.logical_and),
    "logical_or": boolean(np.logical_or),
    "logical_xor": boolean(np.logical_xor),
}
TITLES = {
    "add": "Plus",
    "sub": "Minus",
    "not_equal": "Not_Equal",
    "greater_equal": "Greater_Equal",
    "lesser_equal": "Lesser_Equal",
    "logical_and": "Logical_And",
    "logical_or": "Logical_Or",
    "logical_xor": "Logical_Xor",
}
LOWER = {"add": "plus", "sub": "minus"}


def operands(name: str) -> tuple[Array, Array]:
    x, y = VALUES.copy(), np.flip(VALUES, 1).copy()
    x[0, :2] = y[0, :2]  # some are equal
    x[1, 0] = 0
    if name.startswith("logical"):
        x, y = np.round(x), np.round(y)
    return (np.abs(x) + np.float32(0.1), y) if name == "power" else (x, y)


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_arrays(mxnet: Any, close: Any, name: str) -> None:
    x, y = operands(name)
    expected = BINARY[name](x.astype(np.float64), y.astype(np.float64))
    old = [f"_{TITLES.get(name, name.title())}", f"_{LOWER.get(name, name)}"]
    elementwise = [f"elemwise_{name}"] if name in ("add", "sub", "mul", "div") else []
    for op in (*old, *elementwise, f"broadcast_{name}"):
        close(mxnet.op(op, {}, x, y, batch=op == old[0]), expected, 2e-6)
    row = y[:1]
    close(
        mxnet.op(f"broadcast_{name}", {}, x, row, batch=False),
        BINARY[name](x.astype(np.float64), row.astype(np.float64)),
        2e-6,
    )


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_an_array_and_a_number(mxnet: Any, close: Any, name: str) -> None:
    x = operands(name)[0]
    title = f"_{TITLES.get(name, name.title()).replace('_', '')}Scalar"
    lower = f"_{LOWER.get(name, name)}_scalar"
    for number in (0.5, 1.0, 2.0, 3.0, 0.0) if name not in ("div", "mod") else (0.5, 1.0, 2.0):
        expected = BINARY[name](x.astype(np.float64), np.float64(number))
        for op in (title, lower) if number == 0.5 else (lower,):
            close(mxnet.op(op, {"scalar": number}, x, batch=False), expected, 2e-6)


@pytest.mark.parametrize("name", ["sub", "div", "mod", "power"])
def test_functions_of_a_number_and_an_array(mxnet: Any, close: Any, name: str) -> None:
    x = VALUES
    for number in (3.5, 1.0, 2.0):
        expected = BINARY[name](np.float64(number), x.astype(np.float64))
        for op in (
            f"_R{TITLES.get(name, name.title())}Scalar",
            f"_r{LOWER.get(name, name)}_scalar",
        ):
            close(mxnet.op(op, {"scalar": number}, x, batch=False), expected, 2e-6)


@pytest.mark.parametrize(
    ("op", "name"),
    [
        ("_grad_add", "add"),
        ("broadcast_plus", "add"),
        ("broadcast_minus", "sub"),
        ("_add", "add"),
        ("_sub", "sub"),
    ],
)
def test_other_names(mxnet: Any, close: Any, op: str, name: str) -> None:
    close(mxnet.op(op, {}, *operands(name)), BINARY[name](*operands(name)))


def test_other_names_with_a_number(mxnet: Any, close: Any) -> None:
    close(mxnet.op("_scatter_plus_scalar", {"scalar": "3"}, VALUES), VALUES + 3)
    close(mxnet.op("_scatter_minus_scalar", {"scalar": "3"}, VALUES), VALUES - 3)


def test_the_rest_of_a_division_by_zero_is_zero(mxnet: Any) -> None:
    x, y = np.array([3, -1], np.float32), np.array([0, 0], np.float32)
    np.testing.assert_array_equal(mxnet.op("broadcast_mod", {}, x, y), [0, 0])


def test_whole_numbers_keep_their_type(mxnet: Any) -> None:
    x, y = np.array([7, -7], np.int32), np.array([3, 3], np.int32)
    found = mxnet.op("broadcast_mod", {}, x, y)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, [1, 2])
    assert mxnet.op("broadcast_equal", {}, x, y).dtype == np.int32


@pytest.mark.parametrize("op", ["add_n", "ElementWiseSum"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_sums_of_many(mxnet: Any, close: Any, op: str, count: int) -> None:
    values = [VALUES * (at + 1) for at in range(count)]
    close(mxnet.op(op, {"num_args": count}, *values), np.sum(values, 0))


@pytest.mark.parametrize("op", ["smooth_l1", "_npx_smooth_l1"])
def test_smooth_l1(mxnet: Any, close: Any, op: str) -> None:
    x = VALUES.astype(np.float64)
    for s in (1.0, 2.0):
        expected = np.where(np.abs(x) < 1 / s**2, (s * x) ** 2 / 2, np.abs(x) - 0.5 / s**2)
        close(mxnet.op(op, {"scalar": s}, VALUES), expected)


@pytest.mark.parametrize("op", ["Cast", "cast", "_npx_cast", "amp_cast"])
def test_casts(mxnet: Any, op: str) -> None:
    for name in ("int32", "float16", "float64", "uint8", "int64"):
        found = mxnet.op(op, {"dtype": name}, ABOVE)
        assert str(found.dtype) == name
        np.testing.assert_array_equal(found, ABOVE.astype(name))
    with pytest.raises(SmithError, match=rf"the node 'it' \({op}\): dtype='complex64' is not"):
        mxnet.op(op, {"dtype": "complex64"}, ABOVE)
    with pytest.raises(SmithError, match="it does not say to which element type"):
        mxnet.op(op, {}, ABOVE)


def test_casts_to_a_common_type(mxnet: Any) -> None:
    half = VALUES.astype(np.float16)
    wide = mxnet.outputs("amp_multicast", {"num_outputs": 2}, half, VALUES, count=2)
    assert [str(v.dtype) for v in wide] == ["float32", "float32"]
    narrow = mxnet.outputs(
        "amp_multicast", {"num_outputs": 2, "cast_narrow": True}, half, VALUES, count=2
    )
    assert [str(v.dtype) for v in narrow] == ["float16", "float16"]
    np.testing.assert_array_equal(narrow[1], half)


def test_bounds(mxnet: Any) -> None:
    found = mxnet.op("clip", {"a_min": -1, "a_max": "0.5"}, VALUES)
    np.testing.assert_array_equal(found, VALUES.clip(-1, 0.5))
    found = mxnet.op("clip", {"a_min": "1e-3", "a_max": "1e+38"}, VALUES)
    np.testing.assert_array_equal(found, VALUES.clip(np.float32(1e-3)))


def test_polynomials_and_scales(mxnet: Any, close: Any) -> None:
    found = mxnet.op("_contrib_quadratic", {"a": 2, "b": -3, "c": 0.25}, VALUES)
    close(found, 2 * VALUES**2 - 3 * VALUES + 0.25)
    close(mxnet.op("_contrib_div_sqrt_dim", {}, VALUES), VALUES / math.sqrt(5))
    open_ = mxnet.op("_contrib_div_sqrt_dim", {}, VALUES[0])  # the axis itself is open
    close(open_, VALUES[0] / math.sqrt(5))


def test_numbers_that_are_none(mxnet: Any) -> None:
    with pytest.raises(SmithError, match=r"the node 'it' \(clip\): a_min='low' is not a number"):
        mxnet.op("clip", {"a_min": "low"}, VALUES)
