"""Prefect plug-in for the `prefect` command: short deployment names, and the address of the server of `nmcl up`.

Prefect calls this on start, before it reads the command line (`[tool.prefect.plugins]` in pyproject.toml).
"""

import json
import sys
from pathlib import Path

from prefect.plugins import HookContext, SetupResult, register_hook

from nmcl.flows.service import service

DEPLOYED = ("extract-features", "train-nmcl", "retrain", "sweep")
WHERE = "local"
FLAGS = ("--watch",)
"""Options of `prefect deployment run` without a value."""


@register_hook
def setup_environment(*, ctx: HookContext) -> SetupResult | None:
    """Expand a short deployment name, and set the API address of `nmcl up` if no other is set."""
    if Path(sys.argv[0]).stem != "prefect":
        return None
    at = position(sys.argv)
    if at is not None:
        sys.argv[at] = full_name(sys.argv[at])
    if ctx.api_url:
        return None
    if running := service.running():
        if at is not None and (mistake := missing_crawl(sys.argv)):
            sys.exit(mistake)
        return SetupResult(env={"PREFECT_API_URL": running.url})
    if at is not None:
        sys.exit(
            "No Prefect server is running. Start one with `nmcl up`, or set yours: PREFECT_API_URL=http://HOST:4200/api"
        )
    return None


def position(argv: list[str]) -> int | None:
    """Return the index of the deployment in `prefect deployment run NAME` or `inspect NAME`; None if not nmcl's."""
    if argv[1:2] not in (["deployment"], ["deployments"]) or argv[2:3] not in (["run"], ["inspect"]):
        return None
    for i, word in enumerate(argv[3:], start=3):
        is_value = argv[i - 1].startswith("-") and argv[i - 1] not in FLAGS and "=" not in argv[i - 1]
        if not is_value and word.split("/")[0] in DEPLOYED:
            return i
    return None


def full_name(name: str) -> str:
    """Return the full name of a deployment: `extract-features` means `extract-features/local`."""
    return name if "/" in name else f"{name}/{WHERE}"


def missing_crawl(argv: list[str]) -> str | None:
    """Return the error message for a crawl folder that cannot be used, else None. URLs are left to the worker."""
    from nmcl.flows.run.sources import require_there
    from nmcl.pipeline.errors import CrawlError
    from nmcl.pipeline.storage.store import is_url

    given = [_text(word.removeprefix("crawl=")) for word in argv if word.startswith("crawl=")]
    try:
        for crawl in given:
            require_there(None if crawl is None or is_url(crawl) else crawl)
    except CrawlError as error:
        return str(error)
    return None


def _text(value: str) -> str | None:
    """Return a parameter as Prefect parses it, as JSON if possible; None if the result is not text."""
    try:
        found = json.loads(value)
    except ValueError:
        return value
    return found if isinstance(found, str) else None
