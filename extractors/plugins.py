"""Extractors of other packages and of a user's own project.

A package brings extractors with the entry points `nmcl.extractors`, NAME -> class. A project names a class of its own
as `module:Class`. Such a name is imported only after `permit`, which a command calls with the names in its own
`--config` and `--set`. So settings that come from a store, a run or a deployment never cause an import.
"""

import inspect
import json
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from nmcl.extractors.registry import EXTRACTORS, FITTED, NOT_FITTED, Entry
from nmcl.pipeline.addressing import hashed
from nmcl.pipeline.errors import ExtractorError, NmclError
from nmcl.pipeline.extractor import Checks, Extracted, Extractor, HasWeights, vectors_of
from nmcl.pipeline.libraries import HasLibraries
from nmcl.pipeline.needs import Frames, Need
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import MODALITIES, Clip, State
from nmcl.pipeline.storage.tables import MOST_TERMS

if TYPE_CHECKING:
    from scipy.sparse import csr_array

GROUP = "nmcl.extractors"
"""Group of the entry points."""
NONE = "none"
"""In place of an extractor: without this feature set."""

_folders: dict[str, str] = {}
"""Permitted names of the form `module:Class`, and the folder from which each may also be imported."""


def permit(folders: Mapping[str, str]) -> None:
    """Permit the import of these names of the form `module:Class`, and of no others.

    Args:
        folders: The name -> the folder of the project, which is put at the end of the import path when it is imported.
    """
    _folders.clear()
    _folders.update(folders)


def permitted() -> dict[str, str]:
    """Return what is permitted, for `permit` in another process."""
    return dict(_folders)


def is_of_project(name: object) -> bool:
    """Return whether a setting names a class of a project, as `module:Class`."""
    return isinstance(name, str) and ":" in name


def installed() -> list[str]:
    """Return the names of extractors that installed packages bring. Imports none of them."""
    return [name for name in _entry_points() if name not in EXTRACTORS and name != NONE and not is_of_project(name)]


def shadowed() -> dict[str, str]:
    """Return the names of entry points that built-in extractors have too, and the packages that bring them."""
    return {name: _sources(points) for name, points in _entry_points().items() if name in (*EXTRACTORS, NONE)}


def source_of(name: str) -> str:
    """Return the package that brings an installed extractor, with its version."""
    return _sources(_entry_points()[name])


def find(name: str, feature: str = "NAME") -> Entry:
    """Return an extractor by its name. Imports it if it is not built in.

    Args:
        feature: The feature set it is for, for the message.

    Raises:
        KeyError: There is no extractor of this name.
        ExtractorError: It may not be imported, cannot be imported, or is no extractor.
    """
    if name in EXTRACTORS:
        return EXTRACTORS[name]
    if is_of_project(name):
        if name not in _folders:
            raise ExtractorError(
                f"The extractor {name} belongs to a project and is imported only by a command that names it: add "
                f"--set features.{feature}.extractor={name}, or --config with a file that has this setting. In Python: "
                f"nmcl.open(STORE, extractors=['{name}'])."
            )
        return _of_project(name, _folders[name])
    if name not in installed():
        raise KeyError(name)
    points = _entry_points()[name]
    if len(points) > 1:
        raise ExtractorError(f"Several packages bring an extractor {name}: {_sources(points)}. Uninstall all but one.")
    return _of_package(points[0])


@cache
def _entry_points() -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, []).append(point)
    return found


def _sources(points: Iterable[EntryPoint]) -> str:
    return ", ".join(f"{point.dist.name} {point.dist.version}" if point.dist else "?" for point in points)


@cache
def _of_package(point: EntryPoint) -> Entry:
    return _entry(point.name, point.load, _sources([point]))


@cache
def _of_project(name: str, folder: str) -> Entry:
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that it hides no installed module; workers and decoding children inherit it
    return _entry(name, partial(resolve_name, name), "your project")


def _entry(name: str, load: Callable[[], Any], source: str) -> Entry:
    try:
        kind = load()
    except (Exception, SystemExit) as error:  # its module may raise anything
        module = sys.modules.get(name.partition(":")[0])
        where = f" in {module.__file__}" if isinstance(error, AttributeError) and module else ""
        raise ExtractorError(
            f"The extractor {name} ({source}) cannot be imported: {type(error).__name__}: {error}{where}."
        ) from error
    make, settings = _constructor(name, kind)
    build = partial(PluginExtractor, name, source, make)
    example = build(settings)
    weights = FITTED if example.fit_videos else NOT_FITTED
    return Entry(example.modality, settings, build, source, weights=lambda: weights)


@dataclass(frozen=True)
class NoSettings:
    """Settings of an extractor without settings."""


def _constructor(name: str, kind: Any) -> tuple[Callable[[Any], Extractor], Any]:
    """Return the constructor from settings, and the default settings."""
    if not isinstance(kind, type):
        raise ExtractorError(f"The extractor {name} is {kind!r:.80}; expected a class.")
    starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = [p for p in inspect.signature(kind).parameters.values() if p.kind not in starred]
    if not parameters:
        return lambda _: kind(), NoSettings()
    settings = parameters[0].default
    if len(parameters) > 1 or not _is_frozen(settings):
        raise ExtractorError(
            f"The constructor of the extractor {name} takes {', '.join(p.name for p in parameters)}; expected nothing, "
            "or one argument whose default is an instance of a frozen dataclass: its settings."
        )
    return kind, settings


def _is_frozen(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type) and value.__dataclass_params__.frozen  # type: ignore[attr-defined]


class PluginExtractor:
    """An extractor that is not built in: has an address of its own, and errors that name it.

    The address holds its name, its settings and its need, whatever its own address says. What it returns is checked.

    Raises:
        ExtractorError: If it breaks a promise of `nmcl.pipeline.extractor.Extractor`, or raises an exception.
    """

    def __init__(self, name: str, source: str, make: Callable[[Any], Extractor], settings: Any) -> None:
        self.name = name
        self.source = source
        self._settings = settings
        with self._named("its constructor"):
            self._inner = own = make(settings)
            self.modality, self.dim, self.fit_videos, self.need = own.modality, own.dim, own.fit_videos, own.need
        self._require(self.modality in MODALITIES, f"modality is {self.modality!r}", " or ".join(MODALITIES))
        self._require(_is_count(self.dim) and self.dim > 0, f"dim is {self.dim!r}", "a number of at least 1")
        self._require(_is_count(self.fit_videos), f"fit_videos is {self.fit_videos!r}", "a number of at least 0")
        needs = get_args(Need)
        self._require(isinstance(self.need, needs), f"need is {self.need!r}", "Frames, Sound or Text")
        used = own.libraries if isinstance(own, HasLibraries) else ()
        is_named = isinstance(used, tuple) and all(isinstance(name, str) for name in used)
        self._require(is_named, f"libraries is {used!r:.80}", "a tuple of names of modules")
        self.libraries = (type(own).__module__.partition(".")[0], *used)
        with self._named("its need, which is sent to decoding processes"):
            pickle.dumps(self.need)
        with self._named("its address, which must be made of JSON values"):
            json.dumps(self.address())
            json.dumps(asdict(settings))

    def address(self) -> dict[str, object]:
        """Return its own address with its name, settings and need."""
        own = {"name": self.name, "settings": hashed(self._settings), "need": self._address_of_need()}
        return {**self._inner.address(), "plugin": own}

    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        """See `nmcl.pipeline.extractor.Extractor`."""
        with self._named("fit"):
            state = self._inner.fit(clips, progress)
            is_state = isinstance(state, State) and all(isinstance(a, np.ndarray) for a in state.arrays.values())
            self._require(is_state, f"fit returned {state!r:.80}", "a State of arrays and JSON values")
            json.dumps(state.info)
        return state

    def extract(self, clips: Sequence[Clip], state: State) -> np.ndarray | Extracted:
        """See `nmcl.pipeline.extractor.Extractor`."""
        with self._named("extract"):
            found = self._inner.extract(clips, state)
            vectors = vectors_of(found)
            got = f"{vectors.shape} {vectors.dtype}" if isinstance(vectors, np.ndarray) else f"{vectors!r:.80}"
            wanted = f"{(len(clips), self.dim)} {np.dtype(np.float32)}"
            self._require(got == wanted, f"extract returned {got}", wanted)
            is_whole = np.isfinite(vectors).all(axis=1) | np.isnan(vectors).all(axis=1)
            self._require(
                bool(is_whole.all()), "extract returned rows with some NaN or inf", "finite numbers or all NaN"
            )
            if isinstance(found, Extracted) and found.terms is not None:
                self._require_terms(found.terms, len(clips))
        return found

    def _require_terms(self, terms: "csr_array", n_clips: int) -> None:
        from scipy.sparse import csr_array

        wanted = f"a csr_array of {n_clips} rows and at most {MOST_TERMS:,} columns, float32, in canonical format"
        is_matrix = isinstance(terms, csr_array) and terms.dtype == np.float32 and terms.has_canonical_format
        fits = is_matrix and terms.shape[0] == n_clips and terms.shape[1] <= MOST_TERMS
        self._require(fits, f"extract returned terms {terms!r:.120}", wanted)
        self._require(bool(np.isfinite(terms.data).all()), "extract returned terms with NaN or inf", "finite weights")

    def fetch(self) -> None:
        """Fetch its weights, if it has any."""
        if isinstance(self._inner, HasWeights):
            with self._named("fetch"):
                self._inner.fetch()

    def check(self) -> None:
        """Check devices and files of its settings, if it does so."""
        if isinstance(self._inner, Checks):
            with self._named("check"):
                self._inner.check()

    def _address_of_need(self) -> dict[str, object]:
        if isinstance(self.need, Frames):
            return {"selector": self._address_of(self.need.selector), "picture": self._address_of(self.need.picture)}
        return {"kind": type(self.need).__name__, **asdict(self.need)}

    def _address_of(self, value: Any) -> dict[str, object]:
        is_named = inspect.isfunction(value)
        self._require(is_named or _is_frozen(value), f"need has {value!r:.80}", "a frozen dataclass or a function")
        kind = value if is_named else type(value)
        package = kind.__module__.partition(".")[0]
        module = package if package == "nmcl" else kind.__module__  # our modules may move
        version = getattr(sys.modules[kind.__module__], "CODE_VERSION", None)
        return {
            "name": f"{module}:{kind.__qualname__}",
            "settings": {} if is_named else hashed(value),
            "code_version": version if isinstance(version, int) else None,
        }

    def _require(self, is_kept: bool, found: str, expected: str) -> None:
        if not is_kept:
            raise ExtractorError(
                f"The extractor {self.name} ({self.source}) breaks a promise: {found}; expected {expected}."
            )

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        """Name the extractor in the errors of its code."""
        try:
            yield
        except (NmclError, MemoryError):
            raise
        except Exception as error:
            raise ExtractorError(
                f"The extractor {self.name} ({self.source}) failed in {what}: {type(error).__name__}: {error}. "
                "Run again with --debug for the traceback."
            ) from error


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
