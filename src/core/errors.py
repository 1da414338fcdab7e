"""Mistakes of users, which end a command with one line, and the exit codes."""

import errno
import os
import sys
from collections.abc import Callable

INTERRUPTED = 130
NOT_READ_ON = 141  # what a shell reports of a program that SIGPIPE ended
NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class UserError(Exception):
    """A mistake that the user can mend; the message names the file or key, what was found, what is allowed."""

    exit_code = 1


class ParamsError(UserError):
    """A value in params.yaml that cannot be used."""

    exit_code = 2


def one_line(error: Exception | str) -> str:
    """Return why ``error`` was raised, or the text ``error``, in one line of at most 400 characters."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:400]


def exit_cleanly(main: Callable[[], None]) -> None:
    """Run a command's ``main``: a `UserError` becomes one line on stderr, Ctrl-C becomes exit code 130.

    So does a full disk or a folder without the right to write, wherever it is met (logs and curves, for example). If
    nobody reads the output any more (``| head -1``), the command ends with 141 and without a word.
    """
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        sys.exit(_complain(str(error), error.exit_code))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python writes the rest of its buffer when it exits
        sys.exit(NOT_READ_ON)
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        sys.exit(_complain(f"{error.filename or 'a file'}: cannot be written: {error.strerror}", UserError.exit_code))
    except KeyboardInterrupt as interrupt:
        sys.exit(_complain(str(interrupt) or "interrupted", INTERRUPTED))


def _complain(message: str, exit_code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return exit_code
