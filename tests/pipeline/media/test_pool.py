"""Decoding processes that are killed: no file but the one that does it comes to harm."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from nmcl.pipeline.errors import ClipError, WorkerError
from nmcl.pipeline.media import Decoder, MediaSettings, Request, decode
from nmcl.pipeline.needs import FrameSelector, TimedFrame
from nmcl.pipeline.records import Content
from tests.media import AllFrames, AtOnce, decoded, request, run_ffmpeg, shades, tone, view, write_video


@dataclass(frozen=True)
class Hangs(AtOnce):
    """Never comes back."""

    def __call__(self, frames: Sequence[TimedFrame]) -> Sequence[TimedFrame]:
        while True:
            time.sleep(1)


@dataclass(frozen=True)
class Waits(AtOnce):
    """Says that it is at work, by a file of its own, and waits for a while the first time."""

    folder: Path
    name: str

    def __call__(self, frames: Sequence[TimedFrame]) -> Sequence[TimedFrame]:
        begun = self.folder / self.name
        if not begun.exists():
            begun.write_text(str(os.getpid()))
            time.sleep(30)
        return frames


@dataclass(frozen=True)
class KillsItsProcess(AtOnce):
    """As a decoder does that hits invalid memory, or the system when memory is short."""

    signal_number: int = signal.SIGSEGV

    def __call__(self, frames: Sequence[TimedFrame]) -> Sequence[TimedFrame]:
        os.kill(os.getpid(), self.signal_number)
        raise AssertionError


@dataclass(frozen=True)
class TakesMemory(AtOnce):
    """Needs far more than a decoding process may have."""

    def __call__(self, frames: Sequence[TimedFrame]) -> Sequence[TimedFrame]:
        raise AssertionError(np.ones((64, 2**30)))


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    return write_video(folder / "clip.mp4", shades([40, 200], 10), fps=10, sound=tone(1000, 2.0))


def children() -> list[psutil.Process]:
    """The decoding processes of this one."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def wait_for(path: Path) -> int:
    """Waits until a process says that it is at work; its number."""
    while not (path.exists() and path.read_text()):
        time.sleep(0.02)
    return int(path.read_text())


def kinds(outcomes: Iterable[Content | ClipError]) -> list[str]:
    return [outcome.kind if isinstance(outcome, ClipError) else "ok" for outcome in outcomes]


def test_a_file_that_hangs_or_crashes_the_decoder_harms_no_other(clip_file: Path) -> None:
    selectors = [AllFrames(), Hangs(), AllFrames(), KillsItsProcess(), AllFrames(), KillsItsProcess(signal.SIGKILL)]
    with Decoder(MediaSettings(timeout_s=6, workers=2)) as decoder:
        outcomes = list(decoder.contents(request(clip_file, selector) for selector in selectors))
    assert kinds(outcomes) == ["ok", "timeout", "ok", "crashed", "ok", "crashed"]


@pytest.mark.parametrize(
    ("selector", "kind"), [(Hangs(), "timeout"), (KillsItsProcess(), "crashed"), (TakesMemory(), "too_large")]
)
def test_sound_is_kept_where_the_picture_ends_the_process(clip_file: Path, selector: FrameSelector, kind: str) -> None:
    with Decoder(MediaSettings(timeout_s=6, workers=1)) as decoder:
        requests = [request(clip_file, AllFrames()), request(clip_file, selector, waveform=True)]
        first, clip = map(view, decoder.contents(requests))
    assert not first.problems
    assert clip.problems["frames"].kind == kind
    expected = decoded(request(clip_file, waveform=True))
    np.testing.assert_array_equal(clip.waveform, expected.waveform)


def test_processes_killed_while_idle_are_replaced(clip_file: Path) -> None:
    with Decoder(MediaSettings(workers=2)) as decoder:
        for _ in range(4):
            assert kinds(decoder.contents([request(clip_file, AllFrames())] * 6)) == ["ok"] * 6
            assert children()
            kill(children())


def test_processes_killed_while_starting_are_replaced(clip_file: Path) -> None:
    def killer() -> None:
        for _ in range(3):
            while not (starting := children()):
                time.sleep(0.01)
            kill(starting)

    for _ in range(4):
        thread = threading.Thread(target=killer)
        thread.start()
        with Decoder(MediaSettings(workers=2)) as decoder:
            assert kinds(decoder.contents([request(clip_file, AllFrames())] * 4)) == ["ok"] * 4
            thread.join()


def test_files_of_processes_killed_at_work_are_tried_again(tmp_path: Path, clip_file: Path) -> None:
    requests = [request(clip_file, Waits(tmp_path, f"{i}")) for i in range(4)]
    outcomes: list[Content | ClipError] = []
    with Decoder(MediaSettings(workers=2)) as decoder:
        thread = threading.Thread(target=lambda: outcomes.extend(decoder.contents(requests)))
        thread.start()
        for i in range(4):
            wait_for(tmp_path / f"{i}")
            kill(children())
        thread.join()
    assert kinds(outcomes) == ["ok"] * 4


def test_all_processes_killed_again_and_again(clip_file: Path) -> None:
    done = threading.Event()

    def killer() -> None:
        for wait_s in np.random.default_rng(0).uniform(0.1, 1.5, 1000):
            if done.wait(wait_s):
                return
            kill(children())

    thread = threading.Thread(target=killer)
    with Decoder(MediaSettings(workers=2)) as decoder:
        thread.start()
        outcomes = list(decoder.contents([request(clip_file, AllFrames(), waveform=True)] * 60))
        done.set()
        thread.join()
    assert kinds(outcomes) == ["ok"] * 60
    expected = decoded(request(clip_file, AllFrames(), waveform=True))
    for outcome in map(view, outcomes):
        assert not outcome.problems
        np.testing.assert_array_equal(outcome.frames, expected.frames)
        np.testing.assert_array_equal(outcome.waveform, expected.waveform)


def test_several_threads_use_one_decoder(tmp_path: Path) -> None:
    files = [write_video(tmp_path / f"{i}.mp4", shades([10 + 20 * i], 4)) for i in range(8)]
    found: dict[int, list[Content | ClipError]] = {}
    with Decoder(MediaSettings(workers=2)) as decoder:

        def read(start: int) -> None:
            selectors = [AllFrames(), KillsItsProcess(), AllFrames(), AllFrames()]
            ordered = [*files[start:], *files[:start]][:4]
            found[start] = list(decoder.contents(map(request, ordered, selectors)))

        threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for start, outcomes in found.items():
        assert kinds(outcomes) == ["ok", "crashed", "ok", "ok"]
        last = view(outcomes[-1])
        assert last.frames is not None
        np.testing.assert_allclose(last.frames.mean(), 10 + 20 * ((start + 3) % 8), atol=3)


def test_results_come_in_order_and_equal_those_of_one_process(tmp_path: Path) -> None:
    files = [write_video(tmp_path / f"{i}.mp4", shades([10 + 20 * i], 4)) for i in range(8)]
    requests = [request(path, AllFrames()) for path in files]
    with Decoder(MediaSettings(workers=2)) as decoder:
        together = list(decoder.contents(iter(requests)))
        again = list(decoder.contents(iter(requests[:2])))
    alone = [decode(request, MediaSettings()) for request in requests]
    for clip, expected in zip(map(view, [*together, *again]), map(view, [*alone, *alone[:2]]), strict=True):
        np.testing.assert_array_equal(clip.frames, expected.frames)


def test_what_is_no_longer_wanted_is_not_decoded(clip_file: Path, tmp_path: Path) -> None:
    def requests() -> Iterator[Request]:
        yield request(clip_file, AllFrames())
        for i in range(20):
            yield request(clip_file, Waits(tmp_path, f"{i}"))

    with Decoder(MediaSettings(workers=1)) as decoder:
        clips = decoder.contents([*requests()] + [request(clip_file, AllFrames())] * 40)
        next(clips)
        clips.close()  # type: ignore[attr-defined]
    assert len([*tmp_path.iterdir()]) <= 1


_KILLED_PARENT = """
import sys
from pathlib import Path
from nmcl.pipeline.media import Decoder, MediaSettings
from tests.media import request
from tests.pipeline.media.test_pool import Waits

if __name__ == "__main__":
    with Decoder(MediaSettings(workers=1)) as decoder:
        list(decoder.contents([request(Path(sys.argv[1]), Waits(Path(sys.argv[2]), "begun"))]))
"""


def test_nobody_waits_for_a_closed_pool(clip_file: Path) -> None:
    """As a thread that still reads while an interrupted command closes the pool."""
    problems: list[str] = []

    def read() -> None:
        try:
            list(decoder.contents([request(clip_file, AllFrames())]))
        except WorkerError as error:
            problems.append(str(error))

    with Decoder(MediaSettings(workers=1)) as decoder:
        pass
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(30)
    assert problems == ["The decoder was closed."]


def test_decoding_processes_end_with_a_killed_parent(tmp_path: Path, clip_file: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_KILLED_PARENT)
    root = Path(__file__).resolve().parents[3]
    (tmp_path / "out").mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(script), str(clip_file), str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    child = psutil.Process(wait_for(tmp_path / "out" / "begun"))
    parent.kill()
    parent.wait()
    child.wait(timeout=20)


def test_ffmpeg_ends_with_a_killed_decoding_process(tmp_path: Path) -> None:
    """The second try on a soundtrack is a process of its own."""
    path = tmp_path / "long.wav"
    samples = np.zeros((150 * 192_000, 2), "<i2").tobytes()
    run_ffmpeg("-f", "s16le", "-ar", 192_000, "-ch_layout", "BL+BR", "-i", "-", path, stdin=samples)
    outcomes: list[Content | ClipError] = []
    with Decoder(MediaSettings(workers=1)) as decoder:
        thread = threading.Thread(target=lambda: outcomes.extend(decoder.contents([request(path, waveform=True)])))
        thread.start()
        programs: list[psutil.Process] = []
        while not programs:
            programs = [program for child in children() for program in _programs_of(child)]
        kill(children())
        _, alive = psutil.wait_procs(programs, timeout=20)
        thread.join()
    assert not alive
    assert kinds(outcomes) == ["ok"]


def _programs_of(child: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return child.children()
    return []
