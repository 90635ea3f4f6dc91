"""Taxonomies from every kind of file, names distinguished and merged, and what is refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmcl.model.study import taxonomy_files
from nmcl.model.study.taxonomy import MAX_DEPTH, Taxonomy, normalised, read_taxonomy
from nmcl.model.study.taxonomy_files import Node
from nmcl.pipeline.errors import SettingsError

CLASSES = ("Café", "Bakery", "Park", "Thai Restaurant", "Restaurant", "Moon")
GROUPS = (
    CLASSES,
    ("Café", "Bakery", "Thai Restaurant", "Restaurant"),
    ("Thai Restaurant", "Restaurant"),
    *((name,) for name in CLASSES),
)
WITHOUT_HEADER = (
    "1,Food,,1\n2,café,1,2\n3,Bakery,1,2\n4,Restaurant,1,2\n5,Thai  Restaurant,4,3\n6,Outdoors,,1\n7,Park,6,2\n"
)
PAIRS = "café,Food\nBakery,food\nRestaurant,Food\nThai Restaurant,restaurant\nPark,Outdoors\n"
NESTED = {"Food": {"café": {}, "Bakery": {}, "Restaurant": {"Thai Restaurant": {}}}, "Outdoors": {"Park": {}}}


def written(folder: Path, content: str | bytes | object, name: str = "") -> Path:
    path = folder / (name or ("tree.csv" if isinstance(content, str | bytes) else "tree.json"))
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        WITHOUT_HEADER,
        WITHOUT_HEADER.encode("cp1252"),
        WITHOUT_HEADER.encode("utf-16"),
        WITHOUT_HEADER.encode("utf-8-sig").replace(b"\n", b"\r\n"),
        "level,Parent_ID,Name,ID\n1,,Food,1\n2,1,Café,2\n2,1,Bakery,3\n2,1,Restaurant,4\n3,4,Thai Restaurant,5\n"
        "1,,Outdoors,6\n2,6,Park,7\n",
        PAIRS,
        "venue,parent\n\n" + PAIRS,
        NESTED,
        {"Food": {"Café": [], "Bakery": {}, "Restaurant": ["Thai Restaurant"]}, "Outdoors": ["Park"]},
    ],
)
def test_all_kinds_of_files_say_the_same(content: object, tmp_path: Path) -> None:
    tree = read_taxonomy(written(tmp_path, content))
    assert tree.groups_for(CLASSES) == GROUPS
    assert tree.missing(CLASSES) == ("Moon",)
    assert "1 of 6 venues" in str(tree.note(CLASSES))
    assert tree.note(CLASSES[:-1]) is None


def test_numbered_groups_are_put_into_each_other(tmp_path: Path) -> None:
    leaves = {str(i): name for i, name in enumerate("abcde", start=1)}
    content = {"leaves": leaves, "groups": [[1, 2], [5], [1, 2, 3], [2, 1]], "weights": [1, 1, 1, 1]}
    tree = read_taxonomy(written(tmp_path, content))
    groups = tree.groups_for(tuple("abcde"))
    assert groups == (tuple("abcde"), ("a", "b", "c"), ("a", "b"), ("a",), ("b",), ("c",), ("d",), ("e",))
    assert tree.groups_for(("e", "b", "a")) == (("e", "b", "a"), ("b", "a"), ("e",), ("b",), ("a",))


@st.composite
def trees(draw: st.DrawFn) -> list[Node]:
    n = draw(st.integers(1, 12))
    return [Node(f"v{i}", draw(st.none() | st.integers(0, i - 1)) if i else None) for i in range(n)]


@given(trees(), st.data())
def test_groups_are_those_of_a_slow_search(nodes: list[Node], data: st.DataObject) -> None:
    known = [node.name for node in nodes] + ["x", "y"]
    classes = tuple(data.draw(st.lists(st.sampled_from(known), unique=True, min_size=1)))

    def under(i: int) -> set[str]:
        return {nodes[i].name}.union(*(under(j) for j, node in enumerate(nodes) if node.parent == i))

    expected = {frozenset(classes), *(frozenset([v]) for v in classes)}
    expected |= {frozenset(under(i)) & frozenset(classes) for i in range(len(nodes))} - {frozenset()}
    tree = Taxonomy(tuple(nodes))
    found = tree.groups_for(classes)
    assert {frozenset(group) for group in found} == expected
    assert len(found) == len(expected)
    assert found[0] == classes
    assert set(tree.missing(classes)) == set(classes) - {node.name for node in nodes}


def test_spellings_of_one_name() -> None:
    for one, other in (
        ("Furniture / Home Store", "furniture/home  store"),
        ("Gym & Spa", " Gym and Spa "),
        ("A&B", "a and b"),
        ("Café", "CAFE\u0301"),
        ("Doctor’s Office", "Doctor's office"),
    ):
        assert normalised(one) == normalised(other)
    assert normalised("Café") != normalised("Cafe")
    assert normalised("Grand") != normalised("Gr&")


def test_one_name_in_several_places() -> None:
    under_itself = Taxonomy((Node("Event", None), Node("Fair", 0), Node("event", 0)))
    assert under_itself.groups_for(("Event", "Fair")) == (("Event", "Fair"), ("Event",), ("Fair",))
    apart = Taxonomy((Node("Food", None), Node("Fun", None), Node("Bar", 0), Node("Bar", 1)))
    assert apart.groups_for(("Food", "Fun"))  # nobody asks for the bar
    with pytest.raises(SettingsError, match="'Food > Bar'"):
        apart.groups_for(("Bar", "Food"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("id,name,parent\n", "is empty"),
        ({}, "is empty"),
        ("1,Food,2,1\n2,Bar,3,1\n3,Pub,1,1\n", "below itself"),
        ("a,b\nb,a\n", "below itself"),
        ("a,a\n", "below itself"),
        ("1,Food,\n1,Bar,\n", "line 2: found '1' a second time"),
        ("a,b\nA,c\n", "line 2: found 'a' a second time"),
        ("1,Food,\n2,Bar,9\n", "line 2: found the unknown parent '9'"),
        ("1,Food,\n,Bar,1\n", "line 2: found an empty name"),
        ("1,Food,\n2\n", "line 2: found 1 cells"),
        ("just text\n", "found 1 cells"),
        ("a,b,c,d,e,f\n", "found 6 cells"),
        ('1,"Food,\n', "line 1"),
        (b"1,\x81,\n", "is not text"),
        (b"1,F\0,\n", "is not text"),
        (b"\xff\xfe1", "is not text"),
        ("".join(f"{i},v{i},{i - 1 if i else ''}\n" for i in range(MAX_DEPTH + 1)), "levels deep"),
        (["Food"], "expected names, or objects"),
        ({"Food": 3}, "found 3"),
        ({"Food": ["Bakery", ["Pub"]]}, r"found \['Pub'\]"),
        ({"Food": [""]}, "found ''"),
        ({"leaves": {"1": "a", "3": "b"}, "groups": []}, "numbered"),
        ({"leaves": {"1": 5}, "groups": []}, "found 5"),
        ({"leaves": {"1": "a"}, "groups": 4}, "found 4"),
        ({"leaves": {"1": "a"}, "groups": [[2]]}, "numbers of 1 to 1"),
        ({"leaves": {"1": "a"}, "groups": [[True]]}, "numbers of 1 to 1"),
        ({"leaves": {"1": "a", "2": "b", "3": "c"}, "groups": [[1, 2], [2, 3]]}, "overlap"),
    ],
)
def test_what_is_no_tree_is_refused(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        read_taxonomy(written(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "no usable JSON"), ('{"a": {}, "a": {}}', "'a' stands twice"), ('{"a":' * 100_000, "no usable JSON")],
)
def test_what_is_no_json_is_refused(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        read_taxonomy(written(tmp_path, content, "tree.json"))


def test_what_is_no_file_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(SettingsError, match="cannot be read"):
            read_taxonomy(path)
    path = written(tmp_path, WITHOUT_HEADER)
    monkeypatch.setattr(taxonomy_files, "MAX_NODES", 6)
    with pytest.raises(SettingsError, match="7 nodes"):
        read_taxonomy(path)
    monkeypatch.setattr(taxonomy_files, "MAX_BYTES", 50)
    with pytest.raises(SettingsError, match="more than 50 bytes"):
        read_taxonomy(path)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:a1\n', max_size=60).map(str.encode), st.booleans())
def test_any_bytes_are_a_tree_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, is_json: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / ("any.json" if is_json else "any.csv")
    path.write_bytes(content)
    try:
        tree = read_taxonomy(path)
    except SettingsError:
        return
    assert tree.nodes


def test_the_paper_s_tree_and_foursquare_s(shared: Path) -> None:
    path = shared / "taxonomy/venue188-tree.json"
    content = json.loads(path.read_text())
    classes = tuple(content["leaves"].values())
    groups = read_taxonomy(path).groups_for(classes)
    given = {frozenset(classes[i - 1] for i in group) for group in content["groups"]}
    found = {frozenset(group) for group in groups}
    assert given < found
    assert all(len(group) in (1, 188) for group in found - given)
    foursquare = read_taxonomy(shared / "taxonomy/foursquare-2016-07-13.csv")
    assert len(foursquare.nodes) == 886
    assert foursquare.missing(classes) == ("Mall",)
    assert ("Museum", "Art Museum") in foursquare.groups_for(("Museum", "Art Museum", "Park"))
