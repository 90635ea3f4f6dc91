"""One command line: global options, shell completion, exit codes, and names in the help."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from importlib import metadata
from typing import get_args, get_type_hints

import pytest

from nmcl.flows import console
from nmcl.flows.cli import options
from nmcl.flows.cli.app import EXIT_CODES, FOUND_SOMETHING
from nmcl.flows.cli.main import INTERRUPTED
from nmcl.flows.settings import Settings
from nmcl.model.registry import MODELS
from nmcl.pipeline.errors import DriftError, MediaError, NmclError, UnfinishedError, UserError
from tests.flows.commands import ROOT, nmcl_here

NAMED = [sys.executable, "-c", "import sys; sys.argv[0] = 'nmcl'; from nmcl.flows.cli.main import main; main()"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (console.QUIET, "NMCL_DEBUG"):
        monkeypatch.setenv(name, "")  # the command sets it: restored after the test


@pytest.mark.parametrize("words", [("-q", "settings", "split"), ("settings", "split", "--quiet")])
def test_quiet_prints_nothing_but_errors(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nmcl_here(*words, capsys=capsys, monkeypatch=monkeypatch) == (0, "", "")
    code, said, error = nmcl_here("settings", "splt", "-q", capsys=capsys, monkeypatch=monkeypatch)
    assert (code, said) == (2, "")
    assert error.startswith("error: There is no section or setting 'splt'.")


def test_quiet_keeps_what_a_program_reads(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    loud = nmcl_here("settings", "split", "--json", capsys=capsys, monkeypatch=monkeypatch)
    assert nmcl_here("settings", "split", "--json", "-q", capsys=capsys, monkeypatch=monkeypatch) == loud
    with console.showing_progress():
        console.progress("extract", 1, 1)
        console.note("a note")
    assert capsys.readouterr() == ("", "")


def test_debug_may_follow_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, error = nmcl_here("settings", "splt", "--debug", capsys=capsys, monkeypatch=monkeypatch)
    assert error.startswith("Traceback")


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = nmcl_here("--version", capsys=capsys, monkeypatch=monkeypatch)
    assert found == (0, f"nmcl {metadata.version('nmcl')}\n", "")


def test_a_shell_completes_commands_and_options() -> None:
    for words, expected in (("nmcl sett", {"settings"}), ("nmcl doctor --js", {"--json"})):
        completing = {"_NMCL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        env = {**os.environ, "PYTHONPATH": str(ROOT), **completing}
        done = subprocess.run(NAMED, capture_output=True, text=True, env=env, check=False)
        assert set(done.stdout.split()) == expected, done.stderr


def test_exit_codes_are_distinct_and_in_the_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kinds(kind: type[NmclError]) -> Iterator[type[NmclError]]:
        yield kind
        for derived in kind.__subclasses__():
            yield from kinds(derived)

    assert {str(kind.exit_code) for kind in kinds(NmclError)} == {"1", "2", "3", "4", "5"}
    own = [kind.exit_code for kind in (NmclError, UserError, MediaError, DriftError, UnfinishedError)]
    assert own == [1, 2, 3, 4, 5]
    assert str(FOUND_SOMETHING) in EXIT_CODES
    assert f"{INTERRUPTED}, 143" in EXIT_CODES
    monkeypatch.setenv("COLUMNS", "200")
    code, said, _ = nmcl_here("--help", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 0
    for number, meaning in EXIT_CODES.items():
        assert f"{number}: {meaning.replace('`', '')[:40]}" in said


def test_the_help_names_all_methods_and_sections() -> None:
    def help_of(name: str, kind: type) -> str:
        hint = get_type_hints(kind, include_extras=True)[name]
        return str(get_args(hint)[1].help)

    methods = re.findall(r"\w+", help_of("methods", options.StudyOptions).split("which are")[1])
    assert methods == list(MODELS)
    sections = re.findall(r"\w+", help_of("sets", options.SettingsOptions).split("Sections:")[1])
    assert sections == [field.name for field in fields(Settings)]
