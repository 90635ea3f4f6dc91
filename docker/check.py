"""The Dockerfile without Docker: its instructions, one by one, in chroots of a Debian that debootstrap made.

    debootstrap --variant=minbase --include=python3-venv,python3-pip,ca-certificates bookworm base
    ln -s /usr/bin/python3 base/usr/local/bin/python
    python docker/check.py build base work                         # every stage that the target cpu needs, under work/
    python docker/check.py run work nmcl sample crawls/sample      # in it, with its user, folder and environment
    python docker/check.py run work HEALTHCHECK                    # what the Dockerfile says there

Root is needed. `ENVIRONMENT="NAME=VALUE ..."` adds to the environment. What is named in `SHARED` is as on this machine,
so that pip finds its index. Only what our Dockerfile uses is understood: anything else stops the build.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from string import Template

from dockerfile_parse import DockerfileParser

REPOSITORY = Path(__file__).resolve().parent.parent
TARGET = "cpu"
SHARED = ("/proc", "/sys", "/dev", "/etc/resolv.conf", "/etc/ssl/certs", "/etc/pip.conf")
SHELL = ("sh", "-c")


def build(base: Path, work: Path) -> None:
    """Run each instruction of the stages that the target needs; what the image says of itself goes to image.json."""
    images: dict[str, dict] = {}
    stages = _stages()
    for name in _needed(stages, TARGET):
        print(f"== {name}", flush=True)
        origin, *instructions = stages[name]
        parent = images.get(origin["value"].split()[0])
        image = json.loads(json.dumps(parent)) if parent else {"user": "0", "folder": "/", "env": {}, "args": {}}
        image["root"] = str(work / name)
        _copy(Path(parent["root"]) if parent else base, work / name)
        for instruction in instructions:
            print(f"-- {instruction['instruction']} {instruction['value'][:100]}", flush=True)
            _do(instruction["instruction"], instruction["value"], image, images)
        images[name] = image
    (work / "image.json").write_text(json.dumps(images[TARGET], indent=1))


def run(work: Path, command: list[str]) -> int:
    """A command in the finished image; its `HEALTHCHECK` or `CMD` where it is called so. Returns its exit status."""
    image = json.loads((work / "image.json").read_text())
    return _run(image, image.get(command[0], command))


def _stages() -> dict[str, list[dict]]:
    """The instructions of each stage, by its name, from its FROM on."""
    stages: dict[str, list[dict]] = {}
    for instruction in DockerfileParser(str(REPOSITORY / "docker" / "Dockerfile")).structure:
        if instruction["instruction"] == "FROM":
            name = instruction["value"].split(" AS ")[1]
            stages[name] = []
        if stages and instruction["instruction"] != "COMMENT":
            stages[name].append(instruction)
    return stages


def _needed(stages: dict[str, list[dict]], target: str) -> list[str]:
    """The stages that one is made of, itself last."""
    if target not in stages:
        return []
    origins = [stages[target][0]["value"].split()[0]]
    origins += [i["value"].split()[0].removeprefix("--from=") for i in stages[target] if i["instruction"] == "COPY"]
    return list(dict.fromkeys([*(stage for origin in origins for stage in _needed(stages, origin)), target]))


def _do(instruction: str, value: str, image: dict, images: dict[str, dict]) -> None:
    def expanded(text: str) -> str:
        return Template(text).safe_substitute(image["args"] | image["env"])

    match instruction:
        case "ARG":
            name, _, default = value.partition("=")
            image["args"][name] = os.environ.get(name, default)
        case "ENV":
            pairs = dict(word.split("=", 1) for word in value.replace("\\\n", " ").split())
            image["env"] |= {name: expanded(text) for name, text in pairs.items()}
        case "USER":
            image["user"] = expanded(value)
        case "WORKDIR":
            image["folder"] = value
            Path(image["root"] + value).mkdir(parents=True, exist_ok=True)
        case "RUN":
            if status := _run(image, [*SHELL, value]):
                sys.exit(f"RUN ended with {status}: {value}")
        case "COPY":
            *sources, target = value.split()
            stage = images[sources.pop(0).removeprefix("--from=")]["root"] if value.startswith("--from=") else None
            for source in sources:
                origin = Path(stage + source) if stage else REPOSITORY / source
                to = Path(image["root"], target.lstrip("/")) if target.startswith("/") else _inside(image, target)
                _copy(origin, to / origin.name if target.endswith("/") else to, "--link" if stage else "--reflink=auto")
        case "HEALTHCHECK" | "CMD":
            image[instruction] = json.loads(value[value.index("[") :])
        case _:
            sys.exit(f"{instruction} is not understood here.")


def _inside(image: dict, path: str) -> Path:
    return Path(image["root"] + image["folder"], path)


def _copy(source: Path, target: Path, how: str = "--reflink=auto") -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    subprocess.run(["cp", "--archive", how, source, target], check=True)


def _run(image: dict, command: list[str]) -> int:
    """In mounts and processes of its own, which end with it."""
    root = image["root"]
    mounts = [f"mkdir -p {root}/tmp && chmod 1777 {root}/tmp"]
    for path in filter(os.path.exists, SHARED):
        make = f"mkdir -p {root}{path}" if os.path.isdir(path) else f"touch {root}{path}"
        mounts.append(f"{make} && mount --rbind {path} {root}{path}")
    home = "/root" if image["user"] == "0" else "/home/nmcl"
    path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    of_machine = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    given = dict(word.split("=", 1) for word in os.environ.get("ENVIRONMENT", "").split())
    values = of_machine | {"PATH": path, "HOME": home} | image["args"] | image["env"] | given
    environment = [f"{name}={value.replace('$PATH', path)}" for name, value in values.items()]
    enter = ["chroot", f"--userspec={image['user']}:{image['user']}", root, "env", "--ignore-environment", *environment]
    inside = [*enter, "sh", "-c", f'cd {image["folder"]} && exec "$@"', "sh", *command]
    alone = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    script = " && ".join([*mounts, 'exec "$@"'])
    return subprocess.run([*alone, "sh", "-ec", script, "sh", *inside], check=False).returncode


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["build", base, work]:
            build(Path(base), Path(work).absolute())
        case ["run", work, *command]:
            sys.exit(run(Path(work), command))
        case _:
            sys.exit(__doc__)
