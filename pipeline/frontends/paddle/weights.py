"""Load a layer's state dict. Paddle writes it as a pickle; only plain arrays are read from it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from onnxsmith.errors import SmithError

# What a pickled state dict of arrays needs, under the names of numpy 1 and 2.
_PLAIN = {
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}
# Paddle's table from its own names to the layer's; not a weight.
_NAMES_KEY = "StructuredToParameterName@@"


def load_weights(layer: Any, path: str, *, trust: bool) -> None:
    """Load the state dict in ``path`` into a layer.

    Args:
        layer: A paddle.nn.Layer.
        path: A ``.pdparams`` file that ``paddle.save`` wrote.
        trust: Whether the file may hold other objects than arrays, which run code when loaded.

    Raises:
        SmithError: The file is damaged or not trusted, or does not fit the layer.
    """
    state = _read(Path(path), trust=trust)
    state.pop(_NAMES_KEY, None)
    wanted = layer.state_dict()
    missing, extra = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    if missing or extra:
        what = f"lack {missing[0]!r}" if missing else f"hold {extra[0]!r}, which is none of it"
        raise SmithError(
            f"the weights {path} are not those of the layer: they {what}",
            "build the layer with the settings that it was trained with",
        )
    for name, tensor in wanted.items():
        if list(state[name].shape) != list(tensor.shape):
            raise SmithError(
                f"the weights {path} do not fit the layer: {name!r} has the shape "
                f"{list(state[name].shape)} instead of {list(tensor.shape)}",
                "build the layer with the settings that it was trained with",
            )
    layer.set_state_dict(state)


class _ForeignObjectError(Exception):
    """A pickle holds something other than arrays."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in _PLAIN:
            raise _ForeignObjectError(f"{module_name}.{global_name}")
        return super().find_class(module_name, global_name)


def _read(path: Path, *, trust: bool) -> dict[str, Any]:
    unpickler = pickle.Unpickler if trust else _PlainUnpickler
    try:
        with path.open("rb") as file:
            state = unpickler(file).load()
    except _ForeignObjectError as error:
        raise SmithError(
            f"the weights {path} hold more than arrays ({str(error)[:100]}), and loading them "
            "would run code",
            "pass --trust if you know who made the file",
        ) from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise SmithError(
            f"cannot read the weights {path}: {' '.join(str(error).split())[:200]}",
            "give the .pdparams file that paddle.save(layer.state_dict(), ...) wrote",
        ) from error
    if not isinstance(state, dict) or not all(
        hasattr(v, "shape") for k, v in state.items() if k != _NAMES_KEY
    ):
        raise SmithError(
            f"{path} holds no state dict",
            "give the .pdparams file that paddle.save(layer.state_dict(), ...) wrote",
        )
    return state
