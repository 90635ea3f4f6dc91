"""Taxonomy: groups the classes of a data set by the nodes of a tree.

A node of the tree may itself be a class ("Museum" above "Art Museum"): its group contains it and all classes below it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nmcl.model.study.taxonomy_files import Node, normalised, read_nodes
from nmcl.pipeline.errors import SettingsError

MAX_DEPTH = 64
"""Largest number of levels of a tree."""
N_SHOWN = 10


@dataclass(frozen=True)
class Taxonomy:
    """Tree of named nodes under an unnamed root.

    Raises:
        SettingsError: a node is its own descendant, or more than MAX_DEPTH levels deep.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        for i in range(len(self.nodes)):
            self._path(i)

    def groups_for(self, classes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Return the distinct sets of classes at or below a node: all classes, the others by decreasing size, singles.

        Each set keeps the given order of classes. A class that is not in the tree is placed directly under the root.

        Args:
            classes: distinct names.

        Raises:
            SettingsError: a class's name occurs at several nodes that are not on one path.
        """
        below: dict[int, list[str]] = defaultdict(list)
        for name in classes:
            node = self._node(name)
            for i in [] if node is None else self._path(node):
                below[i].append(name)
        inner = sorted((tuple(group) for group in below.values()), key=len, reverse=True)
        return tuple(dict.fromkeys([tuple(classes), *inner, *((name,) for name in classes)]))

    def missing(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Return the classes that are not in the tree, in the given order."""
        return tuple(name for name in classes if normalised(name) not in self._places)

    def note(self, classes: Sequence[str]) -> str | None:
        """Return a notice about classes that are not in the tree; None if all are."""
        missing = self.missing(classes)
        if not missing:
            return None
        more = f" and {len(missing) - N_SHOWN} more" if len(missing) > N_SHOWN else ""
        return (
            f"{len(missing)} of {len(classes)} venues are not in the taxonomy: "
            f"{', '.join(map(repr, missing[:N_SHOWN]))}{more}. Each stands alone under the root; "
            "add them to the taxonomy's file if they have neighbours."
        )

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = defaultdict(list)
        for i, node in enumerate(self.nodes):
            if node.name:
                places[normalised(node.name)].append(i)
        return dict(places)

    def _node(self, name: str) -> int | None:
        """Return the node of a class, the deepest if there are several on one path."""
        places = self._places.get(normalised(name))
        if places is None:
            return None
        deepest = max(places, key=lambda i: len(self._path(i)))
        beside = sorted(set(places) - set(self._path(deepest)))
        if beside:
            raise SettingsError(
                f"the taxonomy has the venue {name!r} at {self._shown(deepest)} and at {self._shown(beside[0])}, "
                "expected one place; remove or rename one of them."
            )
        return deepest

    def _path(self, i: int) -> list[int]:
        """Return the node and its ancestors, from the bottom up."""
        path = [i]
        while (parent := self.nodes[path[-1]].parent) is not None:
            if parent in path:
                raise SettingsError(
                    f"the taxonomy's node {self.nodes[i].name!r} is below itself, through "
                    f"{self.nodes[path[-1]].name!r}; give one of them a parent nearer to the top, or none."
                )
            path.append(parent)
            if len(path) > MAX_DEPTH:
                raise SettingsError(
                    f"the taxonomy is more than {MAX_DEPTH} levels deep at {self.nodes[i].name!r}, expected at most "
                    f"{MAX_DEPTH}; check its parents."
                )
        return path

    def _shown(self, i: int) -> str:
        return repr(" > ".join(self.nodes[j].name or "?" for j in reversed(self._path(i))))


def read_taxonomy(path: Path) -> Taxonomy:
    """Read a taxonomy from a file in one of the formats of `read_nodes`.

    Raises:
        SettingsError: the file cannot be read, is too large, or holds no tree.
    """
    return Taxonomy(read_nodes(path))
