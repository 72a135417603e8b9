"""Errors and warnings that a caller may want to catch.

AftermapError                 anything we raise on purpose; the command line prints it as one line, exit code 2
  InputError                  what the user gave cannot be used
    RasterError               an image cannot be read, or does not fit the others or the model
    GeoreferenceError         grids, reference systems or overlaps that do not go together
    FootprintError            a vector file cannot be used
    DataError                 a dataset, manifest or label cannot be used
      ReadingError            files that the options given do not fit
    RecipeError               a recipe key or value is wrong
    ModelError                a model folder is missing, incomplete or altered
    RecordsError              the experiment database cannot be reached or used
    RemoteError               a file elsewhere cannot be reached, read or written, or may not be
      AbsentError             there is no such file
      BudgetError             more bytes than may be read online
  OutputError                 the result cannot be written (exists, not writable, disk full)
  TrainingError               a run stopped because a loss was not finite

AftermapWarning
  PixelCoordinatesWarning     images without georeference: outputs are in pixels
  AlignmentWarning            the shift between the dates could not be measured or not be removed
  DataWarning                 data that is used although something about it is odd
  BackendWarning              a runtime that was to be used was not, or not in the way it was to be
  RecordsWarning              the experiment database stopped answering; the run goes on
  NotificationWarning         a notification could not be sent; the run goes on
"""

import reprlib

from aftermap.wording import worded

_LONGEST = 2500
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 160


def shown(value: object) -> str:
    """A value as a message shows it: as Python writes it, its middle left out where it is long."""
    return _SHOWN.repr(value)


class AftermapError(Exception):
    """Base of all errors that aftermap raises on purpose; whatever it tells of a file, its text is one line."""

    def __init__(self, *told: object) -> None:
        super().__init__(*(worded(each) if isinstance(each, str) else each for each in told))

    def __str__(self) -> str:
        text = "".join(letter if letter.isprintable() else " " for letter in super().__str__())
        return text if len(text) <= _LONGEST else f"{text[:1500]} ... {text[-500:]}"


class InputError(AftermapError):
    """Something the user gave cannot be used."""


class RasterError(InputError):
    """An image cannot be read, or does not fit the other images or the model."""


class GeoreferenceError(InputError):
    """Grids, reference systems or overlaps that do not go together."""


class FootprintError(InputError):
    """A vector file cannot be used."""


class DataError(InputError):
    """A dataset, manifest or label cannot be used."""


class ReadingError(DataError):
    """Files of a dataset that the options given do not fit; others may."""


class RecipeError(InputError):
    """A recipe key or value is wrong."""


class ModelError(InputError):
    """A model folder is missing, incomplete or altered."""


class RecordsError(InputError):
    """The experiment database cannot be reached or used."""


class RemoteError(InputError):
    """A file elsewhere cannot be reached, read or written, or may not be."""


class AbsentError(RemoteError):
    """There is no such file elsewhere."""


class BudgetError(RemoteError):
    """More bytes than may be read online."""


class MissingExtraError(AftermapError):
    """An extra of the package that something needs is not installed."""


class OutputError(AftermapError):
    """The result cannot be written."""


class TrainingError(AftermapError):
    """A training run cannot go on."""


class AftermapWarning(UserWarning):
    """Base of all warnings that aftermap issues."""

    def __init__(self, *told: object) -> None:
        super().__init__(*(worded(each) if isinstance(each, str) else each for each in told))


class PixelCoordinatesWarning(AftermapWarning):
    """Images without georeference: all outputs are in pixel coordinates."""


class AlignmentWarning(AftermapWarning):
    """The shift between the dates could not be measured, or not be removed."""


class DataWarning(AftermapWarning):
    """Data that is used although something about it is odd."""


class BackendWarning(AftermapWarning):
    """A runtime that was to be used was not, or not in the way it was to be."""


class TeacherWarning(AftermapWarning):
    """A teacher that says nothing about the scenes that its student is to learn from."""


class RecordsWarning(AftermapWarning):
    """The experiment database stopped answering: the run goes on, its folder holds everything."""


class NotificationWarning(AftermapWarning):
    """A notification could not be sent: the run goes on."""
