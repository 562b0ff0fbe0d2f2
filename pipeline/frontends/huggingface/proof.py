"""Hold an export against its model at sizes that the exporter did not see.

torch.export drops guards on sizes: what a model's code does for images of even height stays in
the graph for all. A first step, whose past is empty, is a size of its own too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.numerics import compare
from onnxsmith.pipeline.frontends.huggingface.feeds import BATCH, PAST, SEQUENCE, examples
from onnxsmith.pipeline.frontends.huggingface.plans import Plan
from onnxsmith.runtime.session import Session

Arrays = dict[str, np.ndarray[Any, Any]]

_SMALLEST = {BATCH: 1, SEQUENCE: 1, PAST: 0, "text_batch": 1, "image_batch": 1}


def prove(
    path: Path, plan: Plan, reference: Callable[[Mapping[str, Any]], Arrays], seed: int
) -> None:
    """Check the export at larger sizes and at the smallest, where the model runs at them.

    Raises:
        SmithError: It does not run there, or computes something else.
    """
    larger = {name: size + 1 + i for i, (name, size) in enumerate(plan.sizes.items())}
    smallest = {name: _SMALLEST.get(name, size) for name, size in plan.sizes.items()}
    with Session(Artifact.load(path), optimize=False) as session:
        for number, sizes in enumerate((larger, smallest, {**smallest, SEQUENCE: 4})):
            feeds = examples(plan.feeds, sizes, seed + 1 + number)
            try:
                expected = reference(feeds)
            except SmithError:
                continue  # the model itself takes no such size
            _judge(session, feeds, expected)


def _judge(session: Session, feeds: Arrays, expected: Arrays) -> None:
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in list(feeds.items())[:3])
    try:
        actual = session.run(feeds)
    except SmithError as error:
        raise SmithError(f"the export fails at {shapes}: {error.message}") from error
    wrong = next((d for d in compare(expected, actual) if not d.ok), None)
    if wrong is not None:
        raise SmithError(f"the export's {wrong.output!r} is wrong at {shapes}: {wrong.reason}")
