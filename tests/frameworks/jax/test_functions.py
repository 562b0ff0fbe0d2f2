"""Functions of arrays: how inputs bind, what comes out, and what cannot be exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onnxsmith.errors import SmithError

Call = Callable[..., Any]
WEIGHT = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


def random(*sizes: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).standard_normal(sizes).astype(np.float32)


def shape(value: Any) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_a_dict_of_outputs_and_an_open_batch(adopt: Call, parity: Call) -> None:
    def net(x: Any) -> Any:
        hidden = jax.nn.gelu(x @ WEIGHT)
        return {"soft": jax.nn.softmax(hidden), "norm": jnp.linalg.norm(hidden, axis=-1)}

    model, worst = parity(adopt(net, "x:float32[batch,4]"), {"x": random(7, 4)})
    assert worst <= 1e-5
    assert [value.name for value in model.graph.output] == ["norm", "soft"]
    assert shape(model.graph.input[0]) == ["batch", 4]


def test_names_of_parameters_bind_in_any_order(adopt: Call, parity: Call) -> None:
    def net(numerator: Any, denominator: Any) -> Any:
        return numerator / (2 + jnp.abs(denominator))

    source = adopt(net, "denominator:float32[n]", "numerator:float32[n]")
    _, worst = parity(source, {"denominator": random(5), "numerator": 3 * random(5)})
    assert worst <= 1e-6


def test_other_names_bind_by_place(adopt: Call, parity: Call) -> None:
    source = adopt(lambda a, b: a - 2 * b, "left:float32[n]", "right:float32[n]")
    (found,) = source.reference({"left": np.ones(3, "f4"), "right": np.zeros(3, "f4")}).values()
    np.testing.assert_array_equal(found, 1)
    _, worst = parity(source)
    assert worst <= 1e-6


def test_examples_come_with_the_function(adopt: Call, parity: Call) -> None:
    source = adopt((lambda tree, y: tree["a"] * y + tree["b"], ({"a": random(3), "b": 2.0}, 1.5)))
    model, worst = parity(source)
    assert len(model.graph.input) == 1  # numbers are no inputs
    assert worst <= 1e-6


def test_loops_and_branches(adopt: Call, parity: Call) -> None:
    def net(xs: Any) -> Any:
        last, steps = jax.lax.scan(
            lambda c, x: (jnp.tanh(c + x @ WEIGHT @ WEIGHT.T), c.sum()), jnp.zeros(4), xs
        )
        return jax.lax.cond(last.sum() > 0, lambda v: v, lambda v: -v, last), steps

    _, worst = parity(adopt(net, "xs:float32[6,4]"), {"xs": random(6, 4)}, {"xs": -random(6, 4)})
    assert worst <= 1e-5


def test_convolutions(adopt: Call, parity: Call) -> None:
    kernel = random(3, 3, 2, 5)

    def net(image: Any) -> Any:
        found = jax.lax.conv_general_dilated(
            image, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.relu(found).mean((1, 2))

    _, worst = parity(adopt(net, "image:float32[batch,16,16,2]"), {"image": random(3, 16, 16, 2)})
    assert worst <= 1e-5


def test_whole_numbers_and_embeddings(adopt: Call, parity: Call) -> None:
    table = random(50, 8)
    source = adopt(lambda ids: jnp.take(table, ids, axis=0).mean(1), "ids:int32[batch,time]")
    _, worst = parity(source, {"ids": np.arange(24, dtype=np.int32).reshape(2, 12)})
    assert worst <= 1e-5


@pytest.mark.parametrize(
    ("net", "what", "hint"),
    [
        (lambda x: x if x.sum() > 0 else -x, "TracerBoolConversionError", "jax.lax.cond"),
        (lambda x: x + jax.random.normal(jax.random.key(0), (4, 4)), "random numbers", "inference"),
        (
            lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct((4, 4), "float32"), x),
            "primitive 'pure_callback'",
            "from others",
        ),
        (lambda x: np.asarray(x) + 1, "TracerArrayConversionError", "jax.numpy"),
    ],
    ids=["branch", "random", "unknown", "numpy"],
)
def test_what_cannot_be_exported_is_named(
    adopt: Call, tmp_path: Path, net: Any, what: str, hint: str
) -> None:
    with pytest.raises(SmithError, match=what) as caught:
        adopt(net, "x:float32[4,4]").export(tmp_path)
    assert hint in caught.value.hint


def test_inputs_that_are_not_known_are_asked_for(adopt: Call) -> None:
    with pytest.raises(SmithError, match="inputs of 'nets:build' are not known") as caught:
        adopt(jnp.sin)
    assert "--input" in caught.value.hint


def test_a_callable_through_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Call
) -> None:
    (tmp_path / "jax_nets.py").write_text(
        "import jax.numpy as jnp\n\ndef net(x):\n    return jnp.tanh(x).sum(-1)\n"
    )
    monkeypatch.chdir(tmp_path)
    done = run_cli("convert", "jax_nets:net", "-o", "net.onnx", "--input", "x:float32[batch,5]")
    assert done.code == 0, done.err
    assert (tmp_path / "net.onnx").exists()
