"""Every error of the project.

    NmclError
    ├── UserError           the user can put it right: shown as a message, without a traceback
    │   ├── CrawlError      the folder, manifest or labels of a crawl cannot be used
    │   ├── SettingsError   an unknown setting, or a value out of range
    │   ├── StoreError      the output folder is not ours, is damaged, is full, or lacks what was asked for
    │   │   └── StoreTakenError    another process writes to it
    │   ├── WeightsError    network weights are missing or not of the named backbone
    │   ├── DriftError      a new crawl lies too far from the one the champion was trained on
    │   ├── ModelError      a model file cannot be used, or the data is not what the model was trained on
    │   ├── WorkerError     worker processes cannot be had
    │   │   └── UnfinishedError    some parts ended every worker process they were given to
    │   └── MediaError      too many videos gave neither picture nor sound; everything else is finished
    ├── InternalError       every file of a part fails in our own code: a bug, and no data
    └── ClipError           one media file cannot be used: becomes a failure row, never stops a run

A message says what was found, what was expected and what to do. Everything else that is raised is a bug.
"""

from typing import ClassVar


class NmclError(Exception):
    """Root of all errors raised on purpose."""

    exit_code: ClassVar[int] = 1
    """What a command ends with that raises it."""


class UserError(NmclError):
    """Something the user can put right."""

    exit_code = 2


class CrawlError(UserError):
    """The folder, manifest or labels of a crawl cannot be used."""


class SettingsError(UserError):
    """An unknown setting, or a value out of range."""


class StoreError(UserError):
    """The output folder is not a store, is damaged, is full, or lacks what was asked for."""


class StoreTakenError(StoreError):
    """Another process writes to the store."""


class WeightsError(UserError):
    """Network weights are missing or do not belong to the named backbone."""


class DriftError(UserError):
    """A new crawl lies too far from the one the champion was trained on; everything made so far is kept.

    Args:
        folder: that of the drift note.
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
    """Worker processes cannot be had."""


class UnfinishedError(WorkerError):
    """Some parts ended every worker process they were given to; all others are done."""

    exit_code = 5


class MediaError(UserError):
    """More videos than `media.max_failed_share` gave neither picture nor sound; everything else is finished."""

    exit_code = 3


class InternalError(NmclError):
    """Every file of a part fails in our own code: a bug, which must not become data.

    Args:
        trace: of the first of them.
    """

    def __init__(self, message: str, trace: str) -> None:
        super().__init__(message, trace)
        self.trace = trace

    def __str__(self) -> str:
        return f"{self.args[0]}\n{self.trace}"


TRANSIENT = frozenset({"missing", "changed", "timeout", "crashed"})
"""Kinds of ClipError that a later command tries again: they may be no fault of the file."""


class ClipError(NmclError):
    """One media file, or its picture or sound alone, cannot be used.

    Args:
        kind: a stable word for tables and retries. Of a file: `missing` (not there, or cannot be opened), `changed`
            (not the bytes that were ingested), `unreadable` (no media file). Of its picture: `no_picture`; of its
            sound: `no_sound` (it has no soundtrack: data, not a failure), `unreadable`. Of any: `too_large`,
            `timeout`, `crashed` (it ended its decoding process each time), `internal` (nobody foresaw it).
        detail: what was found, for a person; the same in every run.
        trace: of `internal`, for those who mend it.
    """

    def __init__(self, kind: str, detail: str, trace: str = "") -> None:
        super().__init__(kind, detail, trace)  # all, so that it survives the way back from a child process
        self.kind = kind
        self.detail = detail
        self.trace = trace

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"
