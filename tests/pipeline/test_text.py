"""How messages list things."""

from nmcl.pipeline.text import examples, listed


def test_lists_are_short() -> None:
    many = [f"venue {i}" for i in range(1500)]
    assert listed(["a", "b"]) == "a, b"
    assert listed(many, 2) == "venue 0, venue 1 and 1,498 more"
    assert examples(many, 2) == "'venue 0', 'venue 1' and 1,498 more"
    assert len(listed(many)) < 200
