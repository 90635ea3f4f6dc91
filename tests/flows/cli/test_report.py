"""`nmcl report` and `nmcl gallery`: what they write and say, also of a store of an early version."""

import tarfile
from pathlib import Path

import pytest

from tests.flows.commands import nmcl_here

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture
def early(tmp_path: Path) -> Path:
    """The store of commit 28a06ff."""
    with tarfile.open(DATA / "store-28a06ff.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "out"


def test_pages_of_an_early_store(
    early: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said, _ = nmcl_here("report", "--out", early, capsys=capsys, monkeypatch=monkeypatch)
    assert (code, said.strip()) == (0, "nmcl-e3f2a2dde9d6.html: 27 test videos, 0 pictures.")
    page = (tmp_path / "nmcl-e3f2a2dde9d6.html").read_text()
    assert "There are no pictures: this store keeps no thumbnails." in page
    assert "An earlier version made this run" in page
    code, said, _ = nmcl_here("gallery", early, "--to", "here", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 0
    assert said.startswith("here/index.html: ")
    assert (tmp_path / "here/data/index.js").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("report", "none"), "There is no run none."),
        (("gallery", "absent.csv"), "absent.csv cannot be read"),
        (("gallery", "."), "store"),
    ],
)
def test_wrong_input_gets_one_sentence(
    words: tuple[str, ...],
    expected: str,
    early: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, said = nmcl_here(*words, capsys=capsys, monkeypatch=monkeypatch)
    assert (code, said.count("\n")) == (2, 1)
    assert expected in said
