"""Parts of vectors name the libraries that extracted them; a retried part names those of all its rows."""

import json
import platform
from importlib.metadata import version

import pyarrow as pa
import pytest

from nmcl.pipeline.libraries import merged, versions_in, versions_of, versions_of_state, with_versions
from nmcl.pipeline.needs import OCR, Sound, Text
from nmcl.pipeline.storage.tables import decode, encode


class Uses:
    libraries = ("torch", "cv2", "no_such_module")


def test_versions_are_those_installed() -> None:
    found = versions_of(Uses(), Sound())
    assert found["python"] == (platform.python_version(),)
    names = {"nmcl", "numpy", "torch", "opencv-python-headless", "av", "imageio-ffmpeg"}
    assert found == {"python": found["python"]} | {name: (version(name),) for name in names}
    assert {"av", "pillow", "opencv-python-headless", "openvino"} <= {*versions_of(object(), Text(OCR))}
    assert {*versions_of(object(), Text())} == {"nmcl", "numpy", "python"}


def test_they_are_in_the_file_beside_other_metadata() -> None:
    table = pa.table({"video_id": ["a"]}).replace_schema_metadata({"made_as": "1"})
    assert versions_in(decode(encode(table), "a")) is None
    read = decode(encode(with_versions(table, {"torch": ("2.0",)})), "a")
    assert versions_in(read) == {"torch": ["2.0"]}
    assert read.schema.metadata[b"made_as"] == b"1"
    assert with_versions(table, None) is table


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 1}', "\x00", "3"])
def test_metadata_of_another_shape_are_unknown_versions(content: str) -> None:
    assert versions_in(pa.table({}).replace_schema_metadata({"made_with": content})) is None


@pytest.mark.parametrize("info", [{}, {"made_with": 3}, {"made_with": {"a": 1}}, {"made_with": [1]}])
def test_a_state_of_an_earlier_version_names_none(info: dict[str, object]) -> None:
    assert versions_of_state(info) is None
    assert versions_of_state(info | {"made_with": {"torch": ["2.0"]}}) == {"torch": ["2.0"]}


def test_several_versions_are_listed() -> None:
    both = merged([{"torch": ["2.1"], "av": ["16"]}, {"torch": ["2.0"]}, {"torch": ["2.1"]}])
    assert json.dumps(both) == '{"av": ["16"], "torch": ["2.0", "2.1"]}'
