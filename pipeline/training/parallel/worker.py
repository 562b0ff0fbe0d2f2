"""The process of one replica: ``python -m onnxsmith.pipeline.training.parallel.worker``."""

from __future__ import annotations

import os
import sys

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.training.parallel.replica import (
    Part,
    Replica,
    Setup,
    read_message,
    write_message,
)


def main() -> None:
    """Answer parts of batches until the other side closes the pipe."""
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the messages
    setup = read_message(source)
    assert isinstance(setup, Setup)
    try:
        replica = Replica(setup)
        while True:
            try:
                part = read_message(source)
            except SmithError:
                return
            assert isinstance(part, Part)
            write_message(target, replica.answer(part))
    except SmithError as error:
        write_message(target, error)
    except BrokenPipeError:
        sys.exit(1)


if __name__ == "__main__":
    main()
