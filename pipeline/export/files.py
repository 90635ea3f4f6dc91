"""Exports on this machine's disk: all of an export appears at once, with its recipe beside it."""

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from nmcl.pipeline.errors import UserError
from nmcl.pipeline.export.record import Export, Missing, Written
from nmcl.pipeline.export.registry import FORMATS, Format, format_of
from nmcl.pipeline.os_errors import writing
from nmcl.pipeline.scratch import scratch

RECIPE_OF_FOLDER = "recipe.json"
_LIBRARIES = ("nmcl", "numpy", "pyarrow")
_MANY_FILES = 1000
"""Above this many, flushing the whole disk once is faster than each file."""


def recipe_path(form: Format, to: Path) -> Path:
    """Return where the recipe of an export is: in its folder, or beside its file."""
    return to / RECIPE_OF_FOLDER if form.is_folder else to.with_name(f"{to.name}.recipe.json")


def require_free(name: str, to: Path, force: bool) -> None:
    """Check that an export may be written, before anything is read.

    Args:
        name: The format.
        force: Whether an earlier export may be replaced.

    Raises:
        UserError: If there is something that is not to be replaced.
    """
    form = format_of(name)
    if re.match("[a-z][a-z0-9+.-]+:/", str(to)):  # a path keeps one slash
        raise UserError(f"{to} is a URL; exports are written to this machine's disk. Give a path, and copy it there.")
    if not os.path.lexists(to):
        return
    kind = "folder" if to.is_dir() else "file"
    if to.is_dir() != form.is_folder:
        wanted = "folder" if form.is_folder else "file"
        raise UserError(f"{to} is a {kind}; the format {name} is a {wanted}. Name another path by --to.")
    if not force:
        raise UserError(f"{to} exists. Name another path by --to, or replace it with --force.")
    if form.is_folder and any(to.iterdir()) and not recipe_path(form, to).exists():
        raise UserError(f"{to} is a folder that no export made: it has no {RECIPE_OF_FOLDER}. Name another by --to.")


def write_export(export: Export, name: str, to: Path, force: bool = False) -> Written:
    """Write an export and its recipe: to a temporary name first, so that what is there is whole.

    Raises:
        UserError: If something is in its place, or the format cannot hold these values.
        StoreError: If the disk is full or refuses.
    """
    require_free(name, to, force)
    form = format_of(name)
    require_fit(export.missing, name)
    with writing(str(to)):
        to.parent.mkdir(parents=True, exist_ok=True)
        with scratch("export", to.parent) as temporary:
            made = temporary / to.name
            if form.is_folder:
                made.mkdir()
            written = form.write(export, made)
            recipe = recipe_path(form, made)
            recipe.write_text(_json(recipe_of(export, name, written, made)), encoding="utf-8")
            _flush(made)
            _flush(recipe)
            _replace(form, made, to, temporary)
    return written


def require_fit(missing: Missing | None, name: str) -> None:
    """Raise UserError if the consumer of a format would take NaN for a number."""
    if missing == "nan" and not FORMATS[name].holds_nan:
        raise UserError(
            f"The consumers of {name} compute with NaN as with a number. Use --missing zero or completed; which "
            "vectors are observed is written beside them."
        )


def recipe_of(export: Export, name: str, written: Written, made: Path) -> dict[str, Any]:
    """Return how every value of an export was made, as JSON. Equal stores give equal recipes."""
    return {
        "format": name,
        "written_with": {"python": platform.python_version()} | {library: version(library) for library in _LIBRARIES},
        "rows": len(export),
        "labelled": sum(label is not None for label in export.labels),
        "classes": export.classes,
        "splits": {
            "from": export.split_source,
            **{split or "none": int(export.in_split(split).sum()) for split in dict.fromkeys(export.splits)},
        },
        "missing": export.missing,
        "features": {
            feature.name: {
                "modality": feature.modality,
                "dim": feature.dim,
                "observed": int(feature.observed.sum()),
                "missing": int((~feature.observed).sum()),
                "longest_sequence": feature.longest,
                "made_by": feature.made_by,
                "made_with": feature.made_with,
            }
            for feature in export.features
        },
        "contents": dict(written.contents),
        "notes": [*export.notes, *written.notes],
        "files": digests(made),
    }


def digests(made: Path) -> dict[str, Any]:
    """Return size and SHA-256 of a file, or of everything in a folder.

    A folder in it has one digest: of the lines `SHA-256  NAME` of its files, sorted by name. There may be millions.
    """
    if made.is_file():
        return {made.name: _digest(made)}
    return {path.name: _digest(path) if path.is_file() else _digest_all(path) for path in sorted(made.iterdir())}


def _digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _digest_all(folder: Path) -> dict[str, Any]:
    lines, n_files, n_bytes = hashlib.sha256(), 0, 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found = _digest(path)
        lines.update(f"{found['sha256']}  {path.relative_to(folder).as_posix()}\n".encode())
        n_files, n_bytes = n_files + 1, n_bytes + found["bytes"]
    return {"files": n_files, "bytes": n_bytes, "sha256": lines.hexdigest()}


def _json(value: Mapping[str, Any]) -> str:
    return f"{json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)}\n"


def _flush(made: Path) -> None:
    """Write a file, or all files of a folder, to disk."""
    found = (path for path in made.rglob("*") if path.is_file()) if made.is_dir() else [made]
    files = list(islice(found, _MANY_FILES + 1))
    if len(files) > _MANY_FILES:
        os.sync()
        return
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _replace(form: Format, made: Path, to: Path, temporary: Path) -> None:
    """Move an export to its place. A recipe never stands beside a file that it does not describe."""
    if form.is_folder:
        if os.path.lexists(to):
            os.replace(to, temporary / f"{to.name}.old")
        os.replace(made, to)
        return
    recipe_path(form, to).unlink(missing_ok=True)
    os.replace(made, to)
    os.replace(recipe_path(form, made), recipe_path(form, to))
