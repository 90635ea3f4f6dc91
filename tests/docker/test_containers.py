"""docker/, as far as it can be checked without an engine: it reads well, and agrees with the rest of the project.

docker/check.py goes further, as root and with debootstrap: it builds the image and runs commands in it.
"""

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from nmcl.flows.service import service
from nmcl.flows.service.database import Database

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
EXAMPLE = dict(
    line.split("=", 1) for line in (DOCKER / ".env.example").read_text().splitlines() if line and line[0] != "#"
)


def instructions(kind: str) -> list[str]:
    return [i["value"] for i in DockerfileParser(str(DOCKER / "Dockerfile")).structure if i["instruction"] == kind]


def composed(file: str) -> dict[str, Any]:
    """A compose file with the values of `.env.example`, as `docker compose config` shows it."""

    def value(found: re.Match[str]) -> str:
        assert found["name"] in EXAMPLE, f"{found['name']} is not in .env.example"
        return EXAMPLE[found["name"]] or found["default"] or "secret"

    text = re.sub(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*)|:\?[^}]*)?\}", value, (DOCKER / file).read_text())
    content: dict[str, Any] = yaml.safe_load(text)
    return {name: section for name, section in content.items() if not name.startswith("x-")}


def services() -> dict[str, Any]:
    found: dict[str, Any] = composed("compose.yaml")["services"]
    return found


def test_the_dockerfile_is_lint_free() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    if not linter.exists():
        pytest.skip("hadolint is not installed")
    done = subprocess.run([linter, DOCKER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_bases_are_pinned_and_the_user_is_not_root() -> None:
    assert all(re.search(r":[\w.]*\d[\w.]*-", base) for base in instructions("ARG") if base.startswith("BASE="))
    assert {origin.split()[0] for origin in instructions("FROM")} == {"${BASE}", "build", "runtime"}
    assert instructions("USER") == ["$UID"]
    assert "UID=1000" in instructions("ARG")
    assert all(
        "--constraint constraints.txt" in run for run in instructions("RUN") if " pip " in run and "venv" not in run
    )
    assert all(re.search(r":\d[\w.]*-", s["image"]) or s["image"].startswith("nmcl:") for s in services().values())


def test_everything_that_is_copied_reaches_the_builder() -> None:
    ignored, *kept = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("**")]
    assert ignored == "*"
    sources = {word for copy in instructions("COPY") if "--from" not in copy for word in copy.split()[:-1]}
    assert sources == {line.removeprefix("!") for line in kept}
    assert all((ROOT / source).exists() for source in sources)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.removesuffix("*") for name in packages} <= sources


@pytest.mark.parametrize("file", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_follows_the_specification(file: str) -> None:
    specification = pytest.importorskip("compose_spec", reason="compose-spec is not installed")
    content = composed(file)
    assert list(specification.PyCompose.from_json(json.dumps(content)).service_names()) == list(content["services"])


def test_compose_agrees_with_the_deployments() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert {deployment["work_pool"]["name"] for deployment in deployments} == {service.POOL}
    assert f"--pool {service.POOL} --type process" in " ".join(services()["worker"]["command"])
    assert f"work-pool create {service.POOL} --type process" in services()["deployments"]["command"][-1]


def test_compose_has_the_settings_of_nmcl_up() -> None:
    found = {name: services()[name]["environment"] for name in ("server", "worker", "deployments")}
    for name, value in service.SETTINGS.items():
        if name.startswith("PREFECT_"):
            assert found["server" if name.startswith("PREFECT_SERVER_") else "worker"][name] == value
    url = found["server"]["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    assert Database.parse(url).for_prefect == url
    assert Database.parse(url).shown == "postgresql://prefect@database:5432/prefect"
    assert found["worker"]["PREFECT_API_URL"] == found["deployments"]["PREFECT_API_URL"] == "http://server:4200/api"


def test_the_gpu_file_changes_only_known_services() -> None:
    changed = composed("compose.gpu.yaml")["services"]
    assert set(changed) == {name for name, found in services().items() if found["image"] == "nmcl:cpu"}
    assert {found["image"] for found in changed.values()} == {"nmcl:gpu"}
    assert {f"{origin.split()[-1]}" for origin in instructions("FROM")} >= {"cpu", "gpu"}


@pytest.fixture
def address() -> Iterator[str]:
    """Of a server of files."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=DOCKER)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(("path", "status"), [("/Dockerfile", 0), ("/absent", 1), (None, 0)])
def test_health(path: str | None, status: int, address: str) -> None:
    (check,) = instructions("HEALTHCHECK")
    assert check.endswith('CMD ["python", "healthy.py"]')
    environment = {**os.environ, **({"HEALTH_URL": address + path} if path else {})}
    done = subprocess.run([sys.executable, DOCKER / "healthy.py"], env=environment, capture_output=True, check=False)
    assert done.returncode == status
