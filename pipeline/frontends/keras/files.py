"""Look into Keras' files before Keras does: nothing hostile reaches it.

Keras' own reader holds much of this back too; a file is refused here without importing it.
"""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import h5py

from onnxsmith.errors import SmithError

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
# Keras stores without compression; a file that somebody compressed again shrinks by far less.
_MAX_EXPANSION, _SMALL = 100, 1 << 20
_MAX_CONFIG = 64 << 20
_MAX_OBJECTS, _MAX_DEPTH = 1_000_000, 100


@dataclass(frozen=True)
class ModelFile:
    """A file of a whole model.

    Attributes:
        path: The file.
        config: What it says of the model, decoded.
        is_hdf5: Whether it is an ``.h5`` file, as Keras 2 wrote and Keras 3 still does.
        keras_version: The version that wrote it; empty where it does not say.
    """

    path: Path
    config: dict[str, Any]
    is_hdf5: bool
    keras_version: str


def check_model(path: Path, *, trust: bool) -> ModelFile:
    """Check the file of a whole model, and return what it says of itself.

    Raises:
        SmithError: It is no such file, is damaged or hostile, holds weights only, or would run
            code and is not trusted.
    """
    _check_exists(path)
    if path.suffix.lower() == ".keras":
        file = _check_archive(path)
    else:
        with open_hdf5(path, path) as content:
            file = _hdf5_model(path, content)
    if not trust and (layer := _find_code(file.config)):
        raise SmithError(
            f"{path} holds the Lambda layer {layer!r}, whose code runs when it is loaded",
            "pass --trust if you know who made the file",
        )
    return file


def check_weights(path: Path) -> None:
    """Check a file of weights.

    Raises:
        SmithError: It is none, or is damaged or hostile.
    """
    _check_exists(path)
    if path.suffix.lower() == ".keras":
        _check_archive(path)
        return
    with open_hdf5(path, path):
        pass


@contextmanager
def open_hdf5(source: Path | io.BytesIO, path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file and check all that is in it.

    Args:
        source: The file, or its bytes.
        path: What to call it in messages.

    Raises:
        SmithError: It is damaged, names other files, or claims to hold what it does not.
    """
    try:
        with h5py.File(source, "r") as content:
            _check_group(content, path)
            yield content
    except SmithError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise SmithError(
            f"{path} is damaged: {' '.join(str(error).split())[:200]}", "get the file again"
        ) from error


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise SmithError(f"there is no file {path}", "check the path")
    with path.open("rb") as file:
        head = file.read(8)
    expected = b"PK" if path.suffix.lower() == ".keras" else _HDF5_SIGNATURE
    if not head.startswith(expected):
        raise SmithError(
            f"{path} is not a file of Keras: it begins otherwise",
            "give a file that model.save wrote, or say what it is with --from",
        )


def _check_archive(path: Path) -> ModelFile:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                _check_member(member, path)
            names = archive.namelist()
            if len(names) != len(set(names)):
                raise SmithError(f"{path} holds a member twice", "write it again with model.save")
            for name in (_CONFIG, _WEIGHTS):
                if name not in names:
                    raise SmithError(
                        f"{path} holds no {name}", "write it again with model.save (Keras 3)"
                    )
            config = _decode(_read(archive, _CONFIG, path), path)
            with open_hdf5(io.BytesIO(archive.read(_WEIGHTS)), path):
                pass
            metadata = _metadata(archive, path)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise SmithError(f"{path} is damaged: {error}", "get the file again") from error
    return ModelFile(path, config, False, str(metadata.get("keras_version", "")))


def _check_member(member: zipfile.ZipInfo, path: Path) -> None:
    name = PurePosixPath(member.filename)
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or "\\" in member.filename or is_link:
        raise SmithError(
            f"{path} holds the member {member.filename!r}, which leads out of it",
            "do not use this file",
        )
    if member.file_size > _SMALL and member.file_size > _MAX_EXPANSION * member.compress_size:
        raise SmithError(
            f"{path} holds the member {member.filename!r} of {member.file_size} bytes in "
            f"{member.compress_size}",
            "do not use this file",
        )
    if member.flag_bits & 1:
        raise SmithError(f"{path} is encrypted", "decrypt it first")


def _read(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    if archive.getinfo(name).file_size > _MAX_CONFIG:
        raise SmithError(f"{path} holds a {name} of more than 64 MiB", "do not use this file")
    return archive.read(name)


def _metadata(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    if "metadata.json" not in archive.namelist():
        return {}
    return _decode(_read(archive, "metadata.json", path), path)


def _hdf5_model(path: Path, content: h5py.File) -> ModelFile:
    text = _attribute(content, "model_config", path)
    if text is None:
        raise SmithError(
            f"{path} holds weights only",
            "give the code that builds the model: module:callable --weights FILE",
        )
    version = _attribute(content, "keras_version", path)
    return ModelFile(path, _decode(text, path), True, (version or b"").decode("utf-8", "replace"))


def _attribute(content: h5py.File, name: str, path: Path) -> bytes | None:
    if name not in content.attrs:
        return None
    if content.attrs.get_id(name).get_storage_size() > _MAX_CONFIG:
        raise SmithError(f"{path} holds a {name} of more than 64 MiB", "do not use this file")
    value = content.attrs[name]
    return value.encode() if isinstance(value, str) else bytes(value)


def _decode(text: bytes, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SmithError(
            f"{path} is damaged: its description of the model is no JSON", "get the file again"
        ) from error
    if not isinstance(config, dict):
        raise SmithError(
            f"{path} is damaged: its description of the model is no object", "get the file again"
        )
    return config


def _find_code(config: Any) -> str:
    """Return the name of a Lambda layer that holds Python code; empty where there is none."""
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            inner = value.get("config")
            if value.get("class_name") == "Lambda" and isinstance(inner, dict):
                function = inner.get("function")
                kind = function.get("class_name") if isinstance(function, dict) else None
                if isinstance(function, list) or kind == "__lambda__":
                    return str(inner.get("name"))
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return ""


def _check_group(root: h5py.Group, path: Path) -> None:
    """Check every link and data set; cycles end, as each group is entered once."""
    seen: set[int] = set()
    pending: list[tuple[h5py.Group, int]] = [(root, 0)]
    while pending:
        group, depth = pending.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        if depth > _MAX_DEPTH or len(seen) > _MAX_OBJECTS:
            raise SmithError(f"{path} is nested too deeply", "do not use this file")
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise SmithError(
                    f"{path} holds the link {name!r}, which leads elsewhere", "do not use this file"
                )
            item = group[name]
            if isinstance(item, h5py.Group):
                pending.append((item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                _check_dataset(item, name, path)


def _check_dataset(data: h5py.Dataset, name: str, path: Path) -> None:
    if data.external or data.is_virtual:
        raise SmithError(
            f"{path} keeps the values of {name!r} in another file", "do not use this file"
        )
    stored = data.id.get_storage_size()
    if data.nbytes > _SMALL and data.nbytes > _MAX_EXPANSION * stored:
        raise SmithError(
            f"{path} claims {data.nbytes} bytes for {name!r} and holds {stored}",
            "do not use this file",
        )
