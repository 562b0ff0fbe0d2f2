"""Name a data set by its content, and tell whether two data sets share samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.data.base import Batch, DataSource
from onnxsmith.pipeline.data.conform import Conformed
from onnxsmith.pipeline.data.hashing import sample_hashes
from onnxsmith.pipeline.data.source import Data

_READ = 256


def content_digest(source: DataSource) -> str:
    """Return sha256 over the samples in order, in hex: inputs as stored, and labels.

    Raises:
        SmithError: The data cannot be read.
    """
    digest = hashlib.sha256()
    for batch in _stored(source):
        for row in sample_hashes(batch):
            digest.update(row)
        if batch.labels is not None:
            for row in sample_hashes(Batch({"labels": batch.labels})):
                digest.update(row)
    return digest.hexdigest()


def shared_samples(first: DataSource, second: DataSource) -> int:
    """Return how many samples of ``second`` are in ``first`` too.

    What is compared is the data as stored, before scaling; 16 bytes a sample of ``first`` are held.

    Raises:
        SmithError: The data cannot be read.
    """
    known = {row for batch in _stored(first) for row in sample_hashes(batch)}
    return sum(row in known for batch in _stored(second) for row in sample_hashes(batch))


def refuse_shared(data: DataSource, held_out: DataSource) -> None:
    """Refuse evaluation data that shares a sample with the data used before.

    Raises:
        SmithError: At least one sample is in both.
    """
    count = shared_samples(data, held_out)
    if count:
        noun = "sample is" if count == 1 else "samples are"
        raise SmithError(
            f"{count} {noun} both in --data ({data.name}) and in --eval-data ({held_out.name})",
            "evaluate on samples that were not used before, e.g. split=train and split=test",
        )


def _stored(source: DataSource) -> Iterator[Batch]:
    while isinstance(source, Conformed):
        source = source.source
    return source.stored(_READ) if isinstance(source, Data) else source.batches(_READ)
