"""MTCNN as MXNet stored it: three networks that find the faces of a photograph together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.runtime.session import Session

Array = np.ndarray[Any, Any]


def prepared(image: Image.Image, size: tuple[int, int]) -> Array:
    """Return (1, 3, height, width), blue first, from -1 to 1."""
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32)
    values: Array = (pixels[..., ::-1].transpose(2, 0, 1) - 127.5) / 128
    return values[None].copy()


def test_mtcnn_finds_faces(material: Path) -> None:
    models = material / "real" / "models" / "mxnet" / "mtcnn"
    image = Image.open(models / "test2.jpg").convert("RGB")
    first, second, third = (
        convert(models / f"det{number}-symbol.json", inputs=inputs).artifact
        for number, inputs in (
            (1, []),
            (2, ["data:float32[batch,3,24,24]"]),
            (3, ["data:float32[batch,3,48,48]"]),
        )
    )
    assert str(first.spec.inputs[0]) == "data: float32[batch,3,height,width]"
    found: list[tuple[float, float, float, int]] = []
    with Session(first, optimize=False) as session:
        for side in (60, 90):
            scale = 12 / side
            size = (int(image.width * scale), int(image.height * scale))
            likely = session.run({"data": prepared(image, size)})["prob1_output"][0, 1]
            for place in np.argsort(-likely.reshape(-1))[:4]:
                y, x = np.unravel_index(place, likely.shape)
                found.append((float(likely[y, x]), x * 2 / scale, y * 2 / scale, side))
    assert min(face[0] for face in found) > 0.99
    crops = [image.crop((int(x), int(y), int(x + s), int(y + s))) for _, x, y, s in found]
    crops.append(image.crop((0, 0, 100, 100)))  # there is no face
    for artifact, size in ((second, 24), (third, 48)):
        with Session(artifact, optimize=False) as session:
            data = np.concatenate([prepared(crop, (size, size)) for crop in crops])
            likely = session.run({"data": data})["prob1_output"][:, 1]
        assert likely[:-1].min() > 0.9
        assert likely[-1] < 0.5


@pytest.mark.parametrize(("name", "size"), [("det2", 24), ("det3", 48), ("det4", 24)])
def test_the_size_that_is_suggested_is_the_trained_one(
    material: Path, name: str, size: int
) -> None:
    path = material / "real" / "models" / "mxnet" / "mtcnn" / f"{name}-symbol.json"
    with pytest.raises(SmithError, match="which the inputs leave open") as caught:
        convert(path)
    suggested = caught.value.hint.split("'")[1]
    assert suggested.endswith(f",{size},{size}]")
    assert convert(path, inputs=[suggested]).artifact.spec.inputs[0].shape[2:] == (size, size)
