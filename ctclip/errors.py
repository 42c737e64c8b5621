"""The exceptions that ctclip raises for its users.

Every message is one line: what is wrong, what was found, what was expected, what to do. Messages never hold patient
data.
"""

from __future__ import annotations


class CtclipError(Exception):
    """Base of all errors that a user can cause and mend; the command line prints them without a traceback."""


class SeriesError(CtclipError):
    """A DICOM slice or series cannot be used."""


class WeightsError(CtclipError):
    """A weights file is missing, damaged, of the wrong kind or does not fit the network."""


class ConfigError(CtclipError):
    """Settings contradict each other or lie outside their range."""


class DataError(CtclipError):
    """An image or volume is not what it should be, for example not in HU."""


class AlreadyDoneError(CtclipError):
    """What was asked for has been done before: nothing is wrong, and nothing is left to do."""


def one_line(error: Exception) -> str:
    """An error for people; that of a file system without the file's name, which may hold patient data."""
    if isinstance(error, OSError):
        return f"{error.strerror or type(error).__name__} (while reading or writing)"
    return str(error)
