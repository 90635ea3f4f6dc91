"""What reaches a terminal: untrusted text is shown and does nothing."""

import io
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console

from nmcl.flows import console
from nmcl.flows.engine.run_page import markdown_table
from tests.hostile import HOSTILE

OWN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Colours and cursor movements of rich itself."""
ACTS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Both streams as a terminal takes them."""
    file = io.StringIO()
    for name in ("_out", "_err"):
        monkeypatch.setattr(console, name, Console(file=file, force_terminal=True, highlight=False, width=200))
    return file


@pytest.mark.parametrize("name", HOSTILE)
def test_text_is_shown_as_it_is(terminal: io.StringIO, name: str) -> None:
    console.say(f"say {name}")
    console.step(f"step {name}")
    console.note(name)
    console.table(name, ("venue", name), [(name, 1), (name, 0.5), (name, None)])
    with console.showing_progress():
        console.progress("extract", 1, 2, name)
        console.progress(name, 2, 2, name)
    shown = terminal.getvalue()
    assert "\x1b]" not in shown
    assert "31m" not in "".join(OWN.findall(shown))
    assert not ACTS.search(OWN.sub("", shown).replace("\r", ""))
    if "[" in name and name.isprintable():
        assert name in OWN.sub("", shown)


def test_no_line_looks_like_another_message(terminal: io.StringIO) -> None:
    console.note("two\nerror: no\r\nNote: no")
    assert all(line.startswith("  ") for line in OWN.sub("", terminal.getvalue()).splitlines()[1:])


def test_a_long_first_column_leaves_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(console, "_out", Console(file=file, highlight=False, width=60))
    console.table("Crawls", ("crawl", "videos"), [("restaurants_" * 7, 1234)])
    shown = file.getvalue()
    assert "1,234" in shown
    assert "".join(line.split("│")[1].strip() for line in shown.splitlines() if "│" in line) == "restaurants_" * 7


def test_lines_of_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with console.showing_progress():
        for name in HOSTILE:
            console.progress(name, 1, 1, name)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(set(HOSTILE))
    assert not any(ACTS.search(line) for line in lines)
    assert max(map(len, lines)) < 500


@pytest.mark.parametrize("name", HOSTILE)
def test_a_table_of_a_page_has_its_columns(name: str) -> None:
    *_, row = markdown_table(("a", "b"), [(name, name)]).split("\n")
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert not re.search(r"(?<!\\)[<\[`]", row.replace("\\\\", ""))


def test_bars_end_and_name_what_is_at_work(terminal: io.StringIO) -> None:
    with console.showing_progress():
        console.progress("train", 37, 100, "best")
        with console.busy("start the server"):
            pass
    drawn = re.findall(r"(train|start the server)[ ━╸╺]+(\d+/\d+)", OWN.sub("", terminal.getvalue()))
    assert drawn[-2:] == [("train", "37/37"), ("start the server", "1/1")]


def test_lines_end_where_the_work_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with console.showing_progress():
        console.progress("held-out blocks", 0, 4, "als")
    console.progress("nothing", 1, 1)  # outside
    assert capsys.readouterr().err.splitlines() == ["held-out blocks: 0 of 4 als", "held-out blocks: 4 of 4"]


LOADING = """
import sys, time
from nmcl.flows import console
console.say_if_loading()
if sys.argv[1] == "says":
    console.step("said")
time.sleep(console.LOADING_AFTER_S + 1)
"""


@pytest.mark.parametrize(("command", "shown"), [("loads", "Loading ..."), ("says", "said")])
def test_a_command_that_says_nothing_is_loading(command: str, shown: str) -> None:
    leader, follower = pty.openpty()
    done = subprocess.run([sys.executable, "-c", LOADING, command], stderr=follower, check=True)
    os.close(follower)
    assert done.returncode == 0
    assert os.read(leader, 1000).decode().strip() == shown
    os.close(leader)
