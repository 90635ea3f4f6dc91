"""Renders pages. Names, captions and paths are untrusted input: a page escapes them and fetches nothing."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nmcl.flows.report import numbers as text

_FOLDER = Path(__file__).parent


def render_page(template: str, *, styles: Sequence[str] = ("style.css",), **values: Any) -> str:
    """Return a page rendered from a template and its style sheets, which are files of this folder."""
    environment = Environment(
        loader=FileSystemLoader([_FOLDER, _FOLDER / "study"]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": text.percent,
        "decimal": text.decimal,
        "number": text.count,
        "duration": text.seconds,
        "shortened": text.shortened,
        "digest": _digest,
        "base64": lambda data: base64.b64encode(data).decode("ascii"),
    }
    style = Markup("\n").join(Markup((_FOLDER / name).read_text(encoding="utf-8")) for name in styles)
    return environment.get_template(template).render(style=style, **values)


def _shown(value: Any) -> Any:
    """Return the value of a template expression as displayed, before it is escaped."""
    if value is None:
        return text.DASH
    if isinstance(value, str) and not isinstance(value, Markup):
        return text.printable(value)
    return value


def _digest(script: str) -> str:
    """Return the hash of the only script that the content security policy allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode('utf-8')).digest()).decode('ascii')}"
