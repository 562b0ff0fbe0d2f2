"""Take the check's reference while the passes run: the runtime works while Python does."""

from __future__ import annotations

import threading
from collections.abc import Callable

from onnxsmith.passes.verify import Verifier


class LateVerifier:
    """A verifier that is made in the background.

    Args:
        make: Returns the verifier, or None where nothing can be checked. Making it writes the
            input's graph out, for which the places of its weights are edited for a moment: nobody
            may copy the graph between :meth:`begin` and :meth:`wait`.
    """

    def __init__(self, make: Callable[[], Verifier | None]) -> None:
        self._make = make
        self._made: Verifier | None = None
        self._error: BaseException | None = None
        # A daemon: an interrupted program does not wait for the runtime.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._begun = False

    def begin(self) -> None:
        """Start; does nothing the second time."""
        if not self._begun:
            self._begun = True
            self._thread.start()

    def wait(self) -> None:
        """Wait until it is made or has failed, if it was begun."""
        if self._begun:
            self._thread.join()

    def get(self) -> Verifier | None:
        """Return the verifier; waits for it.

        Raises:
            SmithError: What making it raised.
        """
        self.begin()
        self.wait()
        if self._error is not None:
            raise self._error
        return self._made

    def _run(self) -> None:
        try:
            self._made = self._make()
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the verifier
            self._error = error
