"""All errors of the project.

    NmclError
    ├── UserError           the user can fix it: shown as a message, without a traceback
    │   ├── CrawlError      the folder, manifest or labels of a crawl cannot be used
    │   ├── SettingsError   an unknown setting, or a value out of range
    │   ├── ExtractorError  an extractor of another package or project cannot be imported or breaks a promise
    │   ├── StoreError      the output folder is not ours, is damaged, is full, or lacks what was requested
    │   │   └── StoreTakenError    another process writes to it
    │   ├── WeightsError    network weights are missing or not of the named backbone
    │   ├── DriftError      a new crawl drifted too far from the one the champion was trained on
    │   ├── ModelError      a model file cannot be used, or the data is not what the model was trained on
    │   ├── WorkerError     worker processes cannot be started
    │   │   └── UnfinishedError    some parts crashed every worker process they were given to
    │   └── MediaError      too many videos gave neither picture nor sound; everything else is finished
    ├── InternalError       nmcl's own code fails on every file of a part: a bug, not a property of the data
    └── ClipError           one media file cannot be used: becomes a failure row, never stops a run

A message states what was found, what was expected and what to do. Any other exception is a bug.
"""

from typing import ClassVar


class NmclError(Exception):
    """Base class of all errors raised on purpose."""

    exit_code: ClassVar[int] = 1
    """Exit code of a command that raises this error."""


class UserError(NmclError):
    """Base class of errors that the user can fix."""

    exit_code = 2


class CrawlError(UserError):
    """The folder, manifest or labels of a crawl cannot be used."""


class SettingsError(UserError):
    """A setting is unknown, or its value is out of range."""


class ExtractorError(UserError):
    """An extractor of another package or project may not or cannot be imported, fails, or breaks a promise."""


class StoreError(UserError):
    """The output folder is not a store, is damaged, is full, or lacks what was requested."""


class StoreTakenError(StoreError):
    """Another process writes to the store."""


class WeightsError(UserError):
    """Network weights are missing or do not belong to the named backbone."""


class DriftError(UserError):
    """A new crawl drifted too far from the one the champion was trained on; all results so far are kept.

    Args:
        folder: Folder of the drift note.
    """

    exit_code = 4

    def __init__(self, message: str, folder: str) -> None:
        super().__init__(message, folder)
        self.folder = folder

    def __str__(self) -> str:
        return str(self.args[0])


class ModelError(UserError):
    """A model file cannot be used, or the data is not what the model was trained on."""


class WorkerError(UserError):
    """Worker processes cannot be started."""


class UnfinishedError(WorkerError):
    """Some parts crashed every worker process they were given to; all others are done."""

    exit_code = 5


class MediaError(UserError):
    """More videos than `media.max_failed_share` gave neither picture nor sound; everything else is finished."""

    exit_code = 3


class InternalError(NmclError):
    """nmcl's own code fails on every file of a part: a bug, which must not be recorded as failures of the files.

    Args:
        trace: Traceback of the first failure.
    """

    def __init__(self, message: str, trace: str) -> None:
        super().__init__(message, trace)
        self.trace = trace

    def __str__(self) -> str:
        return f"{self.args[0]}\n{self.trace}"


TRANSIENT = frozenset({"missing", "changed", "timeout", "crashed"})
"""Kinds of ClipError that a later command retries, as the file may not be the cause."""


class ClipError(NmclError):
    """One media file, or its picture or sound alone, cannot be used.

    Args:
        kind: A stable word for tables and retries. Of a file: `missing` (not there, or cannot be opened), `changed`
            (not the bytes that were ingested), `unreadable` (no media file). Of its picture: `no_picture`; of its
            sound: `no_sound` (it has no soundtrack: data, not a failure), `unreadable`. Of any: `too_large`,
            `timeout`, `crashed` (it crashed its decoding process each time), `internal` (unexpected).
        detail: What was found, for the user; the same in every run.
        trace: Traceback of an `internal` error, for developers.
    """

    def __init__(self, kind: str, detail: str, trace: str = "") -> None:
        super().__init__(kind, detail, trace)  # all, so that it survives pickling from a child process
        self.kind = kind
        self.detail = detail
        self.trace = trace

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"
