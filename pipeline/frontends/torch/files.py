"""Tell what a file of PyTorch holds, without torch and without running anything of it.

A ``.pt`` may be TorchScript, an exported program, or a pickle: of weights alone, or of a whole
module, which runs code when it is loaded.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Literal

from onnxsmith.errors import SmithError

Kind = Literal["program", "script", "pickle", "safetensors"]

SUFFIXES = (".pt2", ".pt", ".pth", ".jit", ".ts", ".torchscript", ".ckpt", ".bin", ".safetensors")

# torch.save before 1.6: a pickle of this number, by protocol 2.
_OLD_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
_MAX_MEMBERS = 200_000
# torch stores tensors as they are and packs only its code.
_MAX_RATIO, _SLACK_BYTES = 20, 64 * 1024**2
_MAX_CODE_BYTES = 64 * 1024**2
# The operators of TorchScript that open files by a name which the model chooses.
_FILE_ACCESS = re.compile(rb"\b(?:torch|ops\.aten)\s*\.\s*(save|from_file)\b")


def kind_of(path: Path) -> Kind | None:
    """Return what the file holds, or None where it is nothing of PyTorch's.

    Reads the first bytes and, of an archive, the list of its members.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if head.startswith(_OLD_MAGIC):
            return "pickle"
        if _looks_like_safetensors(head, path):
            return "safetensors"
        if not head.startswith(b"PK"):
            return None
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return None
    inner = {name.partition("/")[2] for name in names}
    if "serialized_exported_program.json" in names or any(
        name.startswith("models/") and name.endswith(".json") for name in inner | set(names)
    ):
        return "program"
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "script"
    return "pickle" if "data.pkl" in inner else None


def check_archive(path: Path) -> None:
    """Check that an archive's members stay inside it and are no larger than the file can hold.

    Raises:
        SmithError: It is damaged or hostile.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise SmithError(
            f"{path} is a damaged archive: {' '.join(str(error).split())[:200]}",
            "copy or download it again",
        ) from error
    if len(members) > _MAX_MEMBERS:
        raise SmithError(f"{path} has {len(members)} members", "export the model again")
    size = path.stat().st_size
    if sum(member.file_size for member in members) > size * _MAX_RATIO + _SLACK_BYTES:
        raise SmithError(
            f"{path} unpacks to far more than a model of its size", "export the model again"
        )
    for member in members:
        parts = member.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] in ("", "~") or ":" in parts[0]:
            raise SmithError(
                f"{path} has a member {member.filename[:80]!r}, which leads out of it",
                "export the model again",
            )


def check_code(path: Path) -> None:
    """Check that the code in a TorchScript archive opens no files.

    TorchScript cannot run Python, yet two of its operators read or write files of any name, and
    some of its code runs while it is loaded.

    Raises:
        SmithError: It does.
    """
    left = _MAX_CODE_BYTES
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if "/code/" not in f"/{member.filename}" or not member.filename.endswith(".py"):
                continue
            left -= member.file_size
            if left < 0:
                raise SmithError(f"{path} holds too much code", "export the model again")
            found = _FILE_ACCESS.search(archive.read(member))
            if found:
                raise SmithError(
                    f"{path} calls torch.{found[1].decode()}, which opens files on this machine",
                    "pass --trust if you know who made the file",
                )


def _looks_like_safetensors(head: bytes, path: Path) -> bool:
    length = int.from_bytes(head[:8], "little")
    return len(head) > 8 and head[8:9] == b"{" and 2 <= length <= path.stat().st_size - 8
