"""What of settings is hashed, and what a file of an earlier version means."""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge

from nmcl.pipeline.addressing import Reference, Unhashed, at_references, hashed, with_references


@dataclass(frozen=True)
class Inner:
    widths: Annotated[tuple[int, ...], Reference((5, 4))] = (5, 4)
    rate: Annotated[float, Reference(0.1)] = 0.2
    """Its default changed once."""


@dataclass(frozen=True)
class Outer:
    size: Annotated[int, Ge(1), Reference(8)] = 8
    limit: Annotated[int | None, Reference(None)] = None
    device: Annotated[str, Unhashed()] = "auto"
    unmarked: str = "a"
    inner: Inner = field(default_factory=Inner)


def test_what_differs_from_its_reference_is_hashed_and_what_has_none() -> None:
    assert hashed(Outer(device="cpu", inner=Inner(rate=0.1))) == {"unmarked": "a"}
    assert hashed(Outer()) == {"unmarked": "a", "inner": {"rate": 0.2}}
    changed = Outer(size=9, limit=0, inner=Inner((5,), 0.1))
    assert hashed(changed) == {"unmarked": "a", "size": 9, "limit": 0, "inner": {"widths": [5]}}


def test_settings_of_an_earlier_version_mean_what_they_meant() -> None:
    known = with_references(Outer, {"size": 3, "gone": 1, "inner": {"widths": [1]}})
    assert known == {"size": 3, "gone": 1, "limit": None, "inner": {"widths": [1], "rate": 0.1}}
    assert with_references(Outer, {"inner": "no section"})["inner"] == "no section"
    assert with_references(Outer, {})["inner"] == {"widths": [5, 4], "rate": 0.1}


def test_code_that_no_setting_reaches_does_not_follow_defaults() -> None:
    assert at_references(Inner) == Inner((5, 4), 0.1)
