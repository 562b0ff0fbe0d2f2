"""Checkpoints: all that an interrupted run needs to go on as if nothing had happened."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.runtime.memory import Array
from onnxsmith.storage.atomic import replacing

_FILE, _ABOUT = "checkpoint.npz", "about.json"
_LARGEST_ABOUT = 16 * 1024 * 1024


@dataclass(frozen=True)
class Checkpoint:
    """One moment of a run.

    Attributes:
        arrays: Parameters and states by name.
        about: Epoch, history and what run it is of; JSON values.
    """

    arrays: Mapping[str, Array]
    about: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Replace the checkpoint of a folder; a killed process leaves the old one whole."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / _FILE) as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr(_ABOUT, json.dumps(dict(self.about)))
            for index, (name, array) in enumerate(self.arrays.items()):
                buffer = io.BytesIO()
                np.save(buffer, array, allow_pickle=False)
                archive.writestr(f"{index}.npy", buffer.getvalue())
                archive.writestr(f"{index}.name", name)

    @classmethod
    def load(cls, folder: Path) -> Checkpoint | None:
        """Return the checkpoint of a folder, None where there is none.

        Raises:
            SmithError: The file is damaged.
        """
        path = folder / _FILE
        if not path.exists():
            return None
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.getinfo(_ABOUT).file_size > _LARGEST_ABOUT:
                    raise ValueError
                about = json.loads(archive.read(_ABOUT))
                arrays = {}
                for entry in archive.namelist():
                    if entry.endswith(".npy"):
                        name = archive.read(f"{entry[:-4]}.name").decode()
                        data = io.BytesIO(archive.read(entry))
                        arrays[name] = np.load(data, allow_pickle=False)
        except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError) as error:
            raise SmithError(
                f"the checkpoint {path} is damaged", "delete it to begin anew"
            ) from error
        return cls(arrays, about)
