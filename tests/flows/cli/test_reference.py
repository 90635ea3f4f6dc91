"""docs/cli.md is the generated reference of the command line."""

from pathlib import Path

import pytest
import typer

from nmcl.flows.cli import main, reference

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference.reference() + "\n", (
        "Run: python -m nmcl.flows.cli.reference > docs/cli.md"
    )


def test_every_command_option_and_example_is_in_it() -> None:
    text = reference.reference()
    for command in main.app.registered_commands:
        assert command.callback
        assert f"\n## nmcl {command.callback.__name__}\n" in text
        for line in (command.epilog or "").splitlines():
            if line.startswith("`"):
                assert f"\n{line.strip('`')}\n" in text
    assert "| `--sources SOURCES` | `32` |" in text


def test_bars_and_variables_and_required_options_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()

    @app.callback()
    def options() -> None:
        pass

    @app.command(epilog="`tool copy a`")
    def copy(
        source: str,
        target: str = typer.Argument("here", help="A | B."),
        level: int = typer.Option(..., "--level", "-l", envvar="LEVEL", help="How much."),
    ) -> None:
        """Copy a file."""

    monkeypatch.setattr(reference, "app", app)
    text = reference.reference()
    assert "`nmcl copy [OPTIONS] SOURCE [TARGET]`" in text
    assert r"| `TARGET` | `here` | A \| B. |" in text
    assert "| `--level, -l LEVEL` | required | How much. Environment variable: `LEVEL`. |" in text
