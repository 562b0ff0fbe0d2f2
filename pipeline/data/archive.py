"""Open an ``.npz`` archive of unknown origin."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.data.base import Array
from onnxsmith.pipeline.data.files import find_file, reading
from onnxsmith.pipeline.data.npy import Member, read_members

_NPY_MAGIC = b"\x93NUMPY"


@contextmanager
def open_archive(path: Path) -> Iterator[tuple[zipfile.ZipFile, Mapping[str, Member]]]:
    """Open the archive and read the headers of its arrays.

    Raises:
        SmithError: It is no ``.npz`` file, it is damaged, or it holds objects.
    """
    name = path.name
    with reading(name):
        try:
            with zipfile.ZipFile(path) as archive:
                yield archive, read_members(archive, name)
        except zipfile.BadZipFile as error:
            what = "is damaged" if zipfile.is_zipfile(path) else "is no .npz file"
            raise SmithError(f"{name!r} {what}: {error}", _hint(path)) from error
        except (NotImplementedError, RuntimeError) as error:
            # zipfile says so of unknown compression methods and of encrypted members.
            raise SmithError(
                f"{name!r} cannot be unpacked: {error}", "write it with numpy.savez"
            ) from error


def load_archive(location: str) -> dict[str, Array]:
    """Load all arrays of an ``.npz`` file; pickled objects are refused.

    Raises:
        SmithError: It cannot be read.
    """
    path = find_file(location, "npz")
    with open_archive(path) as (archive, members):
        return {name: member.whole(archive) for name, member in members.items()}


def _hint(path: Path) -> str:
    with path.open("rb") as file:
        single = file.read(len(_NPY_MAGIC)) == _NPY_MAGIC
    return (
        "it is a single array: write numpy.savez(FILE, x=array)"
        if single
        else ("write it with numpy.savez")
    )
