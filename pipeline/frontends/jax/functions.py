"""Turn what a user's callable gives into one function of arrays, with examples where given."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.loading import user_code


@dataclass(frozen=True)
class Function:
    """A function to export.

    Attributes:
        call: The function, in the state for inference.
        parameters: Names of its parameters that can be given by position or name, in order.
        examples: Arguments to export with: an array, a tuple of arguments or a dict by
            parameter; None where there are none.
        kind: What it was made from: ``function``, ``flax.nnx``, ``flax.linen`` or ``equinox``.
    """

    call: Callable[..., Any]
    parameters: tuple[str, ...]
    examples: Any
    kind: str


def as_function(value: Any, source: str, examples: Any = None) -> Function:
    """Return the function that a value stands for.

    A value is a function, a module that can be called, or a tuple that starts with one: of it and
    example arguments, and for a Flax linen module of it, its variables and, last, the examples.

    Args:
        value: The value.
        source: How the user calls it, for messages.
        examples: Example arguments from elsewhere; those in a tuple come first.

    Raises:
        SmithError: It is none of these.
    """
    rest: tuple[Any, ...] = ()
    if isinstance(value, tuple) and not hasattr(value, "_fields") and value:
        value, *others = value
        rest = tuple(others)
    if _is_linen(value):
        return _linen(value, rest, examples, source)
    if len(rest) > 1:
        raise SmithError(
            f"{source!r} gives a tuple of {len(rest) + 1} values",
            "return a function and, second, a tuple of its example arguments",
        )
    examples = rest[0] if rest else examples
    if not callable(value) or inspect.isclass(value):
        raise SmithError(
            f"{source!r} gives a {type(value).__name__}, which is no function of arrays",
            "return a function, a module of Flax or Equinox, or a tuple of one and its examples",
        )
    for package, prepare in (("flax.nnx", _nnx), ("equinox", _equinox)):
        module = sys.modules.get(package)
        if module is not None and isinstance(value, module.Module):
            return Function(prepare(value), _parameters(value), examples, package)
    return Function(value, _parameters(value), examples, "function")


def _is_linen(value: Any) -> bool:
    linen = sys.modules.get("flax.linen")
    return linen is not None and isinstance(value, linen.Module)


def _linen(module: Any, rest: tuple[Any, ...], examples: Any, source: str) -> Function:
    if module.scope is not None:  # bound by Module.bind
        module, variables = module.unbind()
        rest = (variables, *rest)
    if not rest or not isinstance(rest[0], Mapping):
        raise SmithError(
            f"the Flax module {type(module).__name__} of {source!r} comes without its variables",
            "return (module, variables), variables being what module.init gave or training left",
        )
    variables = rest[0]
    if "params" not in variables and not _collections(variables):
        variables = {"params": variables}

    def call(*arguments: Any, **named: Any) -> Any:
        return module.apply(variables, *arguments, **named)

    examples = rest[1] if len(rest) > 1 else examples
    return Function(call, _parameters(module), examples, "flax.linen")


def _collections(variables: Mapping[str, Any]) -> bool:
    """Say whether a mapping holds collections of variables, not the parameters themselves."""
    return not variables or bool({"batch_stats", "cache", "constants"} & set(variables))


def _nnx(module: Any) -> Callable[..., Any]:
    """Return the module as a function, set for inference; the user's own stays as it was.

    Each call makes it anew from its state: what a call changes in it (counters of random keys)
    must not outlive a trace.
    """
    import jax
    from flax import nnx

    with user_code(f"setting {type(module).__name__} for inference"):
        copy = nnx.clone(module)
        copy.eval()
        structure, state = nnx.split(copy)
        leaves, tree = jax.tree_util.tree_flatten(state)
        # A key for random numbers as a constant of a trace stops jax2onnx, even one for a draw
        # of zeros, as the first states of recurrent cells are.
        makers = [_maker(leaf) for leaf in leaves]

    def call(*arguments: Any, **named: Any) -> Any:
        fresh = jax.tree_util.tree_unflatten(tree, [make() for make in makers])
        return nnx.merge(structure, fresh)(*arguments, **named)

    return call


def _maker(leaf: Any) -> Callable[[], Any]:
    """Return a function that gives the leaf; a key is made from its data each time."""
    import jax

    if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return lambda: leaf
    data, kind = jax.random.key_data(leaf), jax.random.key_impl(leaf)
    return lambda: jax.random.wrap_key_data(data, impl=kind)


def _equinox(module: Any) -> Any:
    import equinox

    with user_code(f"setting {type(module).__name__} for inference"):
        return equinox.nn.inference_mode(module)


def _parameters(value: Any) -> tuple[str, ...]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # some callables written in C tell none
        return ()
    return tuple(name for name, p in signature.parameters.items() if p.kind in kinds)
