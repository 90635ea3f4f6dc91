"""Untrusted text in terminals, pages and CSV files."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from nmcl.pipeline.escape import csv_text, is_control, markdown_code, markdown_text, visible
from tests.hostile import HOSTILE

ANY = st.text(st.characters(exclude_categories=()), max_size=200) | st.sampled_from(HOSTILE)
PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@given(ANY)
def test_a_terminal_is_sent_no_control(text: str) -> None:
    assert not CHARACTERS.search(visible(text))
    assert not any(map(is_control, visible(text)))
    assert not CHARACTERS.search(visible(text, keep_lines=True).replace("\n", ""))
    visible(text).encode()


@given(st.text(st.characters(exclude_categories=("C", "Zl", "Zp"))))
def test_other_text_stays(text: str) -> None:
    assert visible(text) == text


def test_escapes_can_be_read() -> None:
    assert visible("a\x1b[31m\x9b\u202e\n\ud800") == "a\\x1b[31m\\x9b\\u202e\\n\\ud800"
    assert visible("x" * 50, 10) == "xxxxxxxxx…"
    assert visible("one\nerror: two", keep_lines=True) == "one\n  error: two"


@given(ANY)
def test_markdown_shows_the_text_and_nothing_else(text: str) -> None:
    shown = " ".join(visible(" ".join(text.split())).split())
    assert not re.search(r"(https?|ftp)://|www\.|[^\\]@", markdown_text(text), re.IGNORECASE)  # GitHub's bare links
    tokens = PARSER.parse(markdown_text(text))
    if not shown:
        assert not tokens
        return
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert {child.type for child in tokens[1].children or ()} <= {"text", "text_special"}
    assert "".join(child.content for child in tokens[1].children or ()) == shown


@given(st.lists(ANY, min_size=2, max_size=2))
def test_markdown_keeps_its_columns(cells: list[str]) -> None:
    text = "| a | b |\n| --- | --- |\n| " + " | ".join(map(markdown_text, cells)) + " |"
    tokens = PARSER.parse(text)
    assert sum(token.type == "td_open" for token in tokens) == 2
    assert tokens[-1].type == "table_close"


@given(ANY)
def test_inline_code_is_one_code(text: str) -> None:
    (shown,) = [t for t in MarkdownIt().parse(f"x {markdown_code(text)} y") if t.type == "inline"]
    if visible(" ".join(text.split())):
        assert [child.type for child in shown.children or ()] == ["text", "code_inline", "text"]


@given(ANY)
def test_no_cell_is_a_formula_and_each_is_read_back(text: str) -> None:
    assert csv_text(text).removeprefix("'") == text
    assert not csv_text(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))


@pytest.mark.parametrize("text", ["Beach", "1=1", "café", "a\nb"])
def test_harmless_cells_stay(text: str) -> None:
    assert csv_text(text) == text
