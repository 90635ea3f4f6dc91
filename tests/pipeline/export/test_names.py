"""Ids of any characters become file names that stay in their folder and do not collide."""

from hypothesis import example, given
from hypothesis import strategies as st

from nmcl.pipeline.export.names import safe_names


@given(st.lists(st.text(max_size=120), unique=True, max_size=20))
@example(["../../etc/passwd", "a/b", "a.b", "..", "", "\x00", "ſ", "S", "s"])
@example(["a b", "a_b-c8687a08", "A_B-C8687A08"])
def test_names_are_safe_and_unique(ids: list[str]) -> None:
    names = safe_names(ids)
    assert len({name.lower() for name in names}) == len(ids)
    for name in names:
        assert 0 < len(name) <= 150
        assert name.isascii()
        assert not {*name} & {*"./\\\x00 :"}


@given(st.lists(st.from_regex(r"[a-z0-9_-]{1,100}", fullmatch=True), unique=True))
def test_plain_ids_are_their_own_names(ids: list[str]) -> None:
    assert safe_names(ids) == ids
