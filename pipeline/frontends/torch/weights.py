"""Read weights from a file and put them into a module, mapped where that can be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.torch.files import check_archive, kind_of

# Under which training code keeps the weights in a checkpoint, beside optimizer and settings.
_NESTED = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights")
# What wrappers put before each name: DataParallel, Lightning, torch.compile and others.
_PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.", "_forward_module.")
_MAX_HEADER = 100_000_000
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")

State = dict[str, torch.Tensor]


def load_weights(module: torch.nn.Module, path: Path) -> tuple[str, ...]:
    """Put the weights of a file into a module; return what was done to their names and types.

    Tied weights stay tied. A module on the meta device takes the file's tensors as its own.

    Raises:
        SmithError: The file cannot be read without running code, or does not fit the module.
    """
    notes: list[str] = []
    state = fit_names(read_state(path, notes), set(module.state_dict()), notes)
    expected = module.state_dict()
    changed = {
        name: tensor
        for name, tensor in state.items()
        if name in expected and tensor.dtype != expected[name].dtype
    }
    if changed:
        name, tensor = next(iter(changed.items()))
        notes.append(
            f"{len(changed)} weights of {path.name} were converted, such as {name!r} from "
            f"{_short(tensor.dtype)} to {_short(expected[name].dtype)}"
        )
        state |= {name: tensor.to(expected[name].dtype) for name, tensor in changed.items()}
    tied = _tied(module)
    _check_fit(state, expected, path)
    module.load_state_dict(state, strict=False, assign=True)
    for first, others in tied.items():
        for other in others:
            _set_parameter(module, other, module.get_parameter(first))
    return tuple(notes)


def read_state(path: Path, notes: list[str]) -> State:
    """Return the tensors of a file by name.

    Takes what torch.save wrote, with the weights at the top or under one of the usual keys, and
    safetensors. Runs no code.

    Raises:
        SmithError: It is neither, is damaged, or holds no tensors.
    """
    kind = kind_of(path)
    if kind == "safetensors":
        return read_safetensors(path)
    value = read_pickle(path)
    name = ""
    while isinstance(value, Mapping) and not _is_state(value):
        name = next((key for key in _NESTED if isinstance(value.get(key), Mapping)), "")
        if not name:
            break
        notes.append(f"the weights stand under {name!r} in {path.name}")
        value = value[name]
    if not isinstance(value, Mapping) or not _is_state(value):
        raise SmithError(
            f"{path} holds no weights by name", "give the file of torch.save(module.state_dict())"
        )
    return {key: tensor for key, tensor in value.items() if isinstance(tensor, torch.Tensor)}


def read_pickle(path: Path) -> Any:
    """Return what torch.save wrote, read without running code.

    Raises:
        SmithError: It is something else, is damaged, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise SmithError(f"{path} is a folder, not a file of weights", "give the file within it")
    kind = kind_of(path)
    if kind in ("script", "program"):
        what = "TorchScript" if kind == "script" else "torch.export"
        raise SmithError(
            f"{path} is a {what} file, not weights",
            "give the file of torch.save(module.state_dict())",
        )
    is_archive = _is_archive(path)
    if is_archive:
        check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except Exception as error:  # noqa: BLE001 - torch.load fails with a dozen types
        text = " ".join(str(error).split())
        found = _GLOBAL.search(text)
        if found:
            raise PickledError(path, found[1]) from None
        raise SmithError(
            f"cannot read the weights {path}: {text[:200] or type(error).__name__}",
            "give a state dict that torch.save wrote, or safetensors",
        ) from None  # nothing but torch's own code ran: its trace helps nobody


class PickledError(SmithError):
    """A file whose pickle names a class: reading it imports and runs code."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"{path} is a pickle of {found}: reading it runs code",
            "save the module's state_dict() instead, and give module:callable --weights FILE",
        )
        self.found = found


def read_safetensors(path: Path) -> State:
    """Return the tensors of a safetensors file, mapped from it.

    The format: eight bytes with the length of a JSON header, the header, the data.
    https://github.com/huggingface/safetensors

    Raises:
        SmithError: It is damaged or lies about its sizes.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise _damaged(path, "the header's length is wrong")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise _damaged(path, "the header is no JSON") from error
    if not isinstance(header, dict):
        raise _damaged(path, "the header is no table")
    start = 8 + length
    if size == start:
        data = torch.empty(0, dtype=torch.uint8)
    else:
        data = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)[start:]
    return {
        name: _tensor(path, data, name, entry)
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _tensor(path: Path, data: torch.Tensor, name: str, entry: Any) -> torch.Tensor:
    try:
        dtype = _DTYPES[entry["dtype"]]
        shape = [int(size) for size in entry["shape"]]
        begin, end = (int(offset) for offset in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"the entry of {name[:80]!r} is unreadable") from error
    count = 1
    for extent in shape:
        count *= extent
    if min(shape, default=0) < 0 or not 0 <= begin <= end <= len(data):
        raise _damaged(path, f"{name[:80]!r} lies outside the file")
    if end - begin != count * dtype.itemsize:
        raise _damaged(path, f"{name[:80]!r} has another size than its shape")
    part = data[begin:end]
    if part.storage_offset() % dtype.itemsize:
        part = part.clone()
    return part.view(dtype).reshape(shape)


def fit_names(state: State, expected: set[str], notes: list[str]) -> State:
    """Return the weights with their names' prefixes taken away, where that is what fits.

    Args:
        state: The weights.
        expected: The names that the module has.
        notes: Takes one line where names were changed.
    """
    best, prefix = state, ""
    for candidate, changed in _stripped(state):
        if len(expected & changed.keys()) > len(expected & best.keys()):
            best, prefix = changed, candidate
    if prefix:
        notes.append(f"the prefix {prefix!r} was taken from the names of the weights")
    return best


def _stripped(state: State) -> Iterator[tuple[str, State]]:
    """Yield the state without each prefix, and without those beneath it."""
    for prefix in _PREFIXES:
        if any(name.startswith(prefix) for name in state):
            # Where one wrapper's names lead the rest is of others: a loss, a second network.
            kept = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
            yield prefix, kept
            for inner, deeper in _stripped(kept):
                yield prefix + inner, deeper


def _check_fit(state: State, expected: Mapping[str, torch.Tensor], path: Path) -> None:
    # Counts batches in training only; files older than it lack it.
    missing = [n for n in expected if n not in state and not n.endswith("num_batches_tracked")]
    extra = [name for name in state if name not in expected]
    wrong = [
        f"{name!r} is {list(tensor.shape)} and not {list(expected[name].shape)}"
        for name, tensor in state.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    told = [f"it lacks {_some(missing)}"] if missing else []
    told += [f"the module has no {_some(extra)}"] if extra else []
    told += wrong[:1]
    if told:
        raise SmithError(
            f"the weights {path} do not fit the module: {'; '.join(told)}",
            "give the state dict of this very module",
        )


def _tied(module: torch.nn.Module) -> dict[str, list[str]]:
    """Return the first name of each parameter that has several, and its others."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {found[0]: found[1:] for found in names.values() if len(found) > 1}


def _set_parameter(module: torch.nn.Module, name: str, value: torch.nn.Parameter) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(owner), attribute, value)


def _is_state(value: Mapping[Any, Any]) -> bool:
    """Return whether a mapping is weights by name; a few plain values beside them do no harm."""
    tensors = [key for key, part in value.items() if isinstance(part, torch.Tensor)]
    return 2 * len(tensors) > len(value) and all(isinstance(key, str) for key in tensors)


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name[:80]) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _damaged(path: Path, what: str) -> SmithError:
    return SmithError(f"{path} is no safetensors file, or damaged: {what}", "copy it again")
