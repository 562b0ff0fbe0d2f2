"""Find the pictures of a folder and what they show."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.data.base import Array
from onnxsmith.pipeline.data.files import reading
from onnxsmith.pipeline.data.query import Options

_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm"})
_SPLITS = frozenset({"train", "test", "val", "valid", "validation"})
_FILE_COLUMNS = ("file", "filename", "path", "image")


@dataclass(frozen=True)
class Listing:
    """Picture files in a fixed order.

    Attributes:
        files: Their paths.
        labels: Int64 ``[N]`` (float32 where the labels are other numbers), if known.
        classes: What integer labels stand for, if known.
        split: The sub-folder that they were found in, where there are splits.
    """

    files: tuple[Path, ...]
    labels: Array | None
    classes: tuple[str, ...] | None
    split: str | None


def list_images(folder: Path, options: Options) -> Listing:
    """List the pictures of a folder: by ``labels.csv``, by sub-folders, or unlabelled.

    Raises:
        SmithError: There is none, or ``labels.csv`` does not fit.
    """
    root, split = _split_folder(folder, options.split)
    named = options.own.get("labels")
    table = root / (named or "labels.csv")
    if named is not None and not table.is_file():
        raise SmithError(f"the folder has no file {named!r}", "check labels=FILE of the data")
    if table.is_file():
        return _from_table(root, table, options.label, split)
    classes = tuple(path.name for path in _folders(root) if _pictures(path))
    if classes:
        groups = [_pictures(root / name) for name in classes]
        labels = np.repeat(np.arange(len(classes)), [len(group) for group in groups])
        return Listing(
            tuple(path for group in groups for path in group),
            labels.astype(np.int64),
            classes,
            split,
        )
    files = tuple(_pictures(root))
    if not files:
        raise SmithError(
            f"the folder {folder.name!r} holds no pictures",
            f"known endings: {', '.join(sorted(_ENDINGS))}",
        )
    return Listing(files, None, None, split)


def _split_folder(folder: Path, asked: str | None) -> tuple[Path, str | None]:
    if asked is not None and (folder / asked).is_dir():
        return folder / asked, asked
    names = [path.name for path in _folders(folder)]
    if names and set(names) <= _SPLITS:
        if asked is not None and asked not in names:
            raise SmithError(f"the folder has no split {asked!r}", f"known: {', '.join(names)}")
        chosen = "train" if "train" in names else names[0]
        return folder / chosen, chosen
    return folder, None


def _folders(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _pictures(folder: Path) -> list[Path]:
    """Return the pictures in a folder and below it, by name."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _ENDINGS and not path.name.startswith(".") and path.is_file()
    )


def _from_table(root: Path, table: Path, label: str | None, split: str | None) -> Listing:
    with reading(table.name), table.open(newline="", encoding="utf-8-sig") as file:
        try:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or [])
            file_column = next((name for name in _FILE_COLUMNS if name in columns), None)
            label_column = _label_column(table, columns, label)
            if file_column is None:
                raise SmithError(f"{table.name!r} has no column 'file'", "add one with file names")
            rows = [
                (_inside(root, row[file_column], table.name, reader.line_num), row[label_column])
                for row in reader
            ]
        except (csv.Error, UnicodeDecodeError) as error:
            raise SmithError(f"{table.name!r} cannot be read: {error}", "mend it") from error
    if not rows:
        raise SmithError(f"{table.name!r} lists no file", "add a line for each picture")
    labels, classes = _label_values(table, [text for _, text in rows])
    return Listing(tuple(path for path, _ in rows), labels, classes, split)


def _label_column(table: Path, columns: list[str], asked: str | None) -> str:
    wanted = asked or "label"
    if wanted not in columns:
        raise SmithError(
            f"{table.name!r} has no column {wanted!r}",
            f"name one with label=COL: {', '.join(columns[:10])}",
        )
    return wanted


def _inside(root: Path, name: str | None, table: str, line: int) -> Path:
    """Return the file in the folder or in its ``images``; paths that lead out are refused."""
    for base in (root, root / "images"):
        path = base / (name or "")
        if name and path.is_file() and path.resolve().is_relative_to(root.resolve()):
            return path
    raise SmithError(
        f"{table!r}, line {line}: there is no picture {(name or '')[:80]!r} in the folder",
        "give names relative to the folder",
    )


def _label_values(table: Path, texts: list[str]) -> tuple[Array, tuple[str, ...] | None]:
    for line, text in enumerate(texts, start=2):
        if not (text or "").strip():
            raise SmithError(f"{table.name!r}, line {line}: the label is missing", "fill it in")
    if all(text.strip().isascii() and text.strip().lstrip("-").isdigit() for text in texts):
        return np.asarray([int(text) for text in texts], np.int64), None
    try:
        return np.asarray([float(text) for text in texts], np.float32), None
    except ValueError:  # names of classes, then
        classes = tuple(sorted({text.strip() for text in texts}))
        index = {name: at for at, name in enumerate(classes)}
        return np.asarray([index[text.strip()] for text in texts], np.int64), classes
