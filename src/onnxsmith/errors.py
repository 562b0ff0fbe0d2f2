"""What can go wrong, as one family of exceptions.

Every error carries one line of *what* and one of *how to mend it*. Only the command line turns
an error into an exit code (``onnxsmith.cli.main``).
"""


class SmithError(Exception):
    """An error in the input or the environment.

    Args:
        message: One line: what is wrong.
        hint: One line: how to mend it.
        output: The last lines that another program printed before it failed; empty where they
            would not help.
    """

    def __init__(self, message: str, hint: str = "", output: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.output = output

    def __reduce__(self) -> tuple[type["SmithError"], tuple[str, str, str]]:
        return type(self), (self.message, self.hint, self.output)


class UsageError(SmithError):
    """An unknown pass, option or command, or a value that does not fit the option."""


class RefusedError(SmithError):
    """Nothing was written because parity or a budget failed."""
