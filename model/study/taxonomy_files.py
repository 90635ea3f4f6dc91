"""Readers for files of taxonomies: CSV with parents, nested JSON, and JSON with numbered groups."""

import csv
import io
import json
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nmcl.pipeline.errors import SettingsError

MAX_BYTES = 16 << 20
MAX_NODES = 100_000
N_SHOWN = 10
COLUMNS = {
    "id": ("id", "category id", "venue id"),
    "name": ("name", "venue", "category", "venue name", "category name"),
    "parent": ("parent", "parent id", "parent name", "parent category"),
}
"""Column names, ignoring case, with "_" as a space. Other columns, such as `level`, are ignored."""
PARTS = ("id", "name", "parent")


@dataclass(frozen=True)
class Node:
    """Node of a tree."""

    name: str
    """Name, empty for a group without a name in the file."""
    parent: int | None
    """Position of the parent among the nodes, possibly a later one; None directly under the root."""


def read_nodes(path: Path) -> tuple[Node, ...]:
    """Read the nodes of a file, `.json` or else CSV, encoded in UTF-8, UTF-16 with a BOM, or Windows-1252.

    CSV: columns id, name, parent id, level, identified by a header or in this order without one; the parent is empty
    directly under the root. Or two columns, venue and parent, both names; a parent without its own line is placed
    directly under the root.

    JSON: nested objects, `{"Food": {"Bakery": {}}}`, whose innermost level may be lists, `{"Food": ["Bakery"]}`; or
    `{"leaves": {"1": "Bakery", ...}, "groups": [[1, 2], ...]}`, where any two groups are disjoint or nested, and
    `weights` are ignored.

    Raises:
        SettingsError: the file cannot be read, is too large, or has other content, such as a repeated id, an unknown
            parent, or no nodes.
    """
    text = _text(path)
    nodes = _json(text, path) if path.suffix.lower() == ".json" else _csv(text, path)
    if not nodes:
        raise SettingsError(f"the taxonomy {path} is empty; write a line `venue,parent` for each venue.")
    if len(nodes) > MAX_NODES:
        raise SettingsError(f"the taxonomy {path} has {len(nodes):,} nodes, expected at most {MAX_NODES:,}.")
    return tuple(nodes)


def normalised(name: str) -> str:
    """Return a name in normalised spelling.

    It is case-folded, in Unicode's composed form, with one kind of apostrophe, "and" for "&", no space around "/" and
    single spaces elsewhere.
    """
    text = unicodedata.normalize("NFC", name).casefold().replace("’", "'").replace("&", " and ")
    return " ".join(re.sub(r"\s*/\s*", "/", text).split())


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"the taxonomy {path} cannot be read: {error}; name a file of venues.") from error
    if len(content) > MAX_BYTES:
        raise SettingsError(f"the taxonomy {path} has more than {MAX_BYTES:,} bytes; is it the right file?")
    marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp1252"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise SettingsError(f"the taxonomy {path} is not text; save it as UTF-8.")


def _csv(text: str, path: Path) -> list[Node]:
    lines = list(_lines(text, path))
    header = _header(lines[0][1]) if lines else {}
    if header:
        lines = lines[1:]
    elif lines:
        n_columns = len(lines[0][1])
        if n_columns not in (2, 3, 4):
            raise _wrong(path, lines[0][0], f"{n_columns} cells", "id,name,parent id,level or venue,parent")
        header = {"name": 0, "parent": 1} if n_columns == 2 else {"id": 0, "name": 1, "parent": 2}
    rows = [(number, *_parts(cells, header, number, path)) for number, cells in lines]
    position: dict[str, int] = {}
    for i, (number, key, _, _) in enumerate(rows):
        if key in position:
            raise _wrong(path, number, f"{key!r} a second time", "every id once; remove one of the lines")
        position[key] = i
    tops: list[Node] = []
    nodes: list[Node] = []
    for number, _, name, parent in rows:
        key = parent if "id" in header else normalised(parent)
        if parent and key not in position:
            if "id" in header:
                raise _wrong(path, number, f"the unknown parent {parent!r}", "the id of another line, or nothing")
            position[key] = len(rows) + len(tops)
            tops.append(Node(parent, None))
        nodes.append(Node(name, position[key] if parent else None))
    return nodes + tops


def _lines(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and cells of each row that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise _wrong(path, reader.line_num, str(error), "comma-separated cells with closed quotes") from error


def _header(cells: Sequence[str]) -> dict[str, int]:
    """Return the column of each part named in the first row; empty unless it has columns of a name and its parent."""
    plain = [" ".join(cell.casefold().replace("_", " ").split()) for cell in cells]
    found = {part: i for part in PARTS for i, cell in enumerate(plain) if cell in COLUMNS[part]}
    return found if "name" in found and "parent" in found else {}


def _parts(cells: Sequence[str], header: dict[str, int], number: int, path: Path) -> tuple[str, str, str]:
    """Return the row's key, name and parent; the key is the id, or the name if there are no ids."""
    if len(cells) <= max(header.values()):
        raise _wrong(path, number, f"{len(cells)} cells", ", ".join(part for part in PARTS if part in header))
    name, parent = cells[header["name"]], cells[header["parent"]]
    key = cells[header["id"]] if "id" in header else normalised(name)
    if not name or not key:
        raise _wrong(path, number, "an empty name or id", "both filled in")
    return key, name, parent


def _wrong(path: Path, number: int, found: str, expected: str) -> SettingsError:
    return SettingsError(f"the taxonomy {path}, line {number}: found {found}, expected {expected}.")


def _json(text: str, path: Path) -> list[Node]:
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"the taxonomy {path} is no usable JSON: {error}.") from error
    if isinstance(content, dict) and isinstance(content.get("leaves"), dict) and "groups" in content:
        return _numbered(content["leaves"], content["groups"], path)
    return _nested(content, path)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{twice!r} stands twice in one object; remove or rename one")
    return found


def _nested(content: object, path: Path) -> list[Node]:
    nodes: list[Node] = []
    waiting: list[tuple[object, int | None]] = [(content, None)]
    while waiting:
        value, parent = waiting.pop()
        if isinstance(value, dict):
            children = list(value.items())
        elif isinstance(value, list) and parent is not None:
            children = [(name, {}) for name in value]
        else:
            raise _shape(path, value)
        for name, below in children:
            if not isinstance(name, str) or not name.strip():
                raise _shape(path, name)
            nodes.append(Node(name.strip(), parent))
            waiting.append((below, len(nodes) - 1))
    return nodes


def _numbered(leaves: dict[str, object], groups: object, path: Path) -> list[Node]:
    """Return the nodes of numbered leaves and groups; larger groups are above the smaller ones within them."""
    names = list(leaves.values())
    if list(leaves) != [str(i) for i in range(1, len(names) + 1)]:
        raise _shape(path, list(leaves)[:N_SHOWN], "leaves numbered 1, 2, 3 ... in order")
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise _shape(path, name)
    members = _members(groups, len(names), path)
    nodes: list[Node] = []
    innermost: list[int | None] = [None] * len(names)
    for group in sorted(members, key=len, reverse=True):
        parents = {innermost[i] for i in group}
        if len(parents) > 1:
            raise _shape(path, sorted(i + 1 for i in group), "groups that do not overlap in part")
        nodes.append(Node("", parents.pop()))
        for i in group:
            innermost[i] = len(nodes) - 1
    return nodes + [Node(str(name).strip(), innermost[i]) for i, name in enumerate(names)]


def _members(groups: object, n_leaves: int, path: Path) -> list[frozenset[int]]:
    """Return the positions, from 0, of the leaves in each distinct group of two or more."""
    if not isinstance(groups, list):
        raise _shape(path, groups)
    found = []
    for group in groups:
        if not isinstance(group, list) or not all(type(i) is int and 1 <= i <= n_leaves for i in group):
            raise _shape(path, group, f"lists of numbers of 1 to {n_leaves}")
        found.append(frozenset(i - 1 for i in group))
    return [group for group in dict.fromkeys(found) if len(group) > 1]


def _shape(path: Path, found: object, expected: str = "names, or objects and lists of them") -> SettingsError:
    return SettingsError(
        f'the taxonomy {path}: found {reprlib.repr(found)}, expected {expected}; write it as {{"Food": ["Bakery"]}}.'
    )
