"""Mistakes of users, which end a command with one line, and the exit codes."""

import errno
import io
import os
import sys
from collections.abc import Callable

from pydantic import ValidationError

INTERRUPTED = 130
NOT_READ_ON = 141  # what a shell reports of a program that SIGPIPE ended
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OF_THE_MACHINE = (*NO_SPACE, errno.EROFS, errno.EACCES, errno.EPERM)  # what no edit of the code can mend


class UserError(Exception):
    """A mistake that the user can mend; the message names the file or key, what was found, what is allowed."""

    exit_code = 1


class ParamsError(UserError):
    """A value in params.yaml that cannot be used."""

    exit_code = 2


def one_line(error: Exception | str) -> str:
    """Return why ``error`` was raised, or the text ``error``, in one line of at most 400 characters."""
    if isinstance(error, ValidationError):  # the text of pydantic's has several lines
        first = error.errors(include_url=False)[0]
        error = f"{'.'.join(map(str, first['loc']))}: {first['msg']} (found {first['input']!r})"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:400]


def exit_cleanly(main: Callable[[], None]) -> None:
    """Run a command's ``main``: a `UserError` becomes one line on stderr, Ctrl-C becomes exit code 130.

    A full disk and a file without the right to read or write it become a line too, wherever they are met (logs, for
    example). If nobody reads the output any more (``| head -1``), the command silently ends with 141.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # where the locale has no "≥" it becomes "?"
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        sys.exit(_complain(str(error), error.exit_code))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python writes the rest of its buffer when it exits
        sys.exit(NOT_READ_ON)
    except OSError as error:
        if error.errno not in OF_THE_MACHINE:
            raise
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(_complain(f"{place}{error.strerror}", UserError.exit_code))
    except KeyboardInterrupt as interrupt:
        sys.exit(_complain(str(interrupt) or "interrupted", INTERRUPTED))


def _complain(message: str, exit_code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return exit_code
