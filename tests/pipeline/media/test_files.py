"""Files that are not what they seem: replaced ones, pipes, playlists, references to other files."""

import hashlib
import os
import shutil
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nmcl.pipeline.errors import ClipError
from nmcl.pipeline.media import MediaSettings, Request, decode
from nmcl.pipeline.media.failures import stable
from nmcl.pipeline.needs import Frames, Sound, TimedFrame
from nmcl.pipeline.records import Content
from tests.media import AllFrames, AsDecoded, AtOnce, decoded, request, run_ffmpeg, shades, tone, write_video


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", shades([40, 200], 10), sound=tone(1000, 2.0))


@pytest.fixture
def ingested(clip_file: Path) -> Request:
    content = clip_file.read_bytes()
    return request(clip_file, AllFrames(), True, hashlib.sha256(content).hexdigest(), len(content))


def failure(request: Request) -> ClipError:
    outcome = decode(request, MediaSettings())
    assert isinstance(outcome, ClipError), outcome
    return outcome


def test_the_file_that_was_ingested_is_decoded(ingested: Request) -> None:
    clip = decoded(ingested)
    assert clip.frames is not None
    assert clip.waveform is not None
    assert not clip.problems


def test_another_file_of_the_same_name_is_changed(tmp_path: Path, ingested: Request) -> None:
    other = write_video(tmp_path / "other.mp4", shades([90], 20))
    other.replace(ingested.path)
    outcome = failure(ingested)
    assert outcome.kind == "changed"
    assert "ingest the crawl again" in outcome.detail
    assert f"{ingested.n_bytes:,}" in outcome.detail


def test_the_same_size_and_time_with_other_bytes_is_changed(ingested: Request) -> None:
    content = bytearray(ingested.path.read_bytes())
    times_ns = ingested.path.stat()
    content[-1] ^= 1
    ingested.path.write_bytes(content)
    os.utime(ingested.path, ns=(times_ns.st_atime_ns, times_ns.st_mtime_ns))
    outcome = failure(ingested)
    assert outcome.kind == "changed"
    assert ingested.sha256[:12] in outcome.detail


class Meanwhile(AtOnce):
    """Every frame, after something else happened."""

    def __init__(self, happens: Callable[[], object]) -> None:
        self._happens = happens

    def __call__(self, frames: Sequence[TimedFrame]) -> Sequence[TimedFrame]:
        self._happens()
        return frames


def test_a_file_written_to_while_it_is_decoded_is_changed(ingested: Request) -> None:
    def append() -> None:
        with ingested.path.open("ab") as file:
            file.write(b"\0" * 8)

    needs = (Frames(Meanwhile(append), AsDecoded()), Sound())
    assert failure(replace(ingested, needs=needs)).kind == "changed"


def test_a_file_replaced_while_it_is_decoded_is_still_the_ingested_one(tmp_path: Path, ingested: Request) -> None:
    other = write_video(tmp_path / "other.mp4", shades([90], 20))
    expected = decoded(ingested)
    needs = (Frames(Meanwhile(lambda: other.replace(ingested.path)), AsDecoded()), Sound())
    clip = decoded(replace(ingested, needs=needs))
    np.testing.assert_array_equal(clip.frames, expected.frames)
    np.testing.assert_array_equal(clip.waveform, expected.waveform)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "socket"])
def test_what_is_no_ordinary_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "strange.mp4"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mknod(path, stat.S_IFSOCK | 0o600)
    outcome = failure(request(path, AllFrames(), True))
    assert outcome.kind == "unreadable"
    assert "not an ordinary file" in outcome.detail


def test_a_link_that_leads_nowhere_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "link.mp4"
    path.symlink_to(tmp_path / "gone.mp4")
    assert failure(request(path, AllFrames())).kind == "missing"


@pytest.fixture
def listener() -> Iterator[tuple[int, list[object]]]:
    """A port of this machine, and who has connected to it."""
    server = socket.create_server(("127.0.0.1", 0))
    seen: list[object] = []

    def listen() -> None:
        while True:
            try:
                connection, address = server.accept()
            except OSError:
                return
            seen.append(address)
            connection.close()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield server.getsockname()[1], seen
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


SCRIPTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{canary}\n#EXTINF:2,\n{url}\n#EXT-X-ENDLIST\n",
    "hls_key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF:2,\nfile:{canary}\n#EXT-X-ENDLIST\n',
    "ffconcat": "ffconcat version 1.0\nfile '{canary}'\nfile '{url}'\n",
    "ffconcat_data": "ffconcat version 1.0\nfile 'data:video/mp4;base64,AAAA'\n"
    "file 'subfile,,start,0,end,9,,:{canary}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1">'
    "<BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "imf": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"/>',
    "rtsp": "[reference]\nRef1={url}\n",
    "ffmetadata": ";FFMETADATA1\ntitle=x\n",
    "srt": "1\n00:00:00,000 --> 00:00:02,000\nhello\n",
    "ass": "[Script Info]\nScriptType: v4.00+\n[Events]\nDialogue: 0,0:00:00.00,0:00:02.00,Default,,0,0,0,,hello\n",
    "webvtt": "WEBVTT\n\n00:00.000 --> 00:02.000\nhello\n",
    "svg": '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file://{canary}"/></svg>',
    "smooth": '<?xml version="1.0"?><SmoothStreamingMedia Url="{url}"/>',
    "tty": "\x1b[2J\x1b[31mhello\x1b[0m\n" * 20,
}


@pytest.mark.parametrize("suffix", ["mp4", "own"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_playlists_and_scripts_reach_nothing(
    tmp_path: Path, clip_file: Path, listener: tuple[int, list[object]], name: str, suffix: str
) -> None:
    port, seen = listener
    folder = tmp_path / "crawl"
    folder.mkdir()
    path = folder / f"script.{name if suffix == 'own' else suffix}"
    path.write_text(SCRIPTS[name].format(canary=clip_file, url=f"http://127.0.0.1:{port}/x.mp4", port=port))
    assert failure(request(path, AllFrames(), True)).kind == "unreadable"
    assert not seen


@pytest.mark.parametrize(
    "name", ["pictures%03d.jpg", "pictures*.jpg", "data:video.mp4", "http:x.mp4", "concat:a|b.mp4"]
)
def test_a_name_is_never_a_pattern_or_an_address(tmp_path: Path, clip_file: Path, name: str) -> None:
    for i in range(3):
        run_ffmpeg("-f", "lavfi", "-i", "color=red:size=32x32", "-frames:v", 1, tmp_path / f"pictures00{i}.jpg")
    path = tmp_path / name
    assert failure(request(path, AllFrames())).kind == "missing"
    shutil.copy(clip_file, path)
    frames = decoded(request(path, AllFrames())).frames
    assert frames is not None
    assert len(frames) == 20


def test_a_container_that_refers_to_another_file_does_not_open_it(tmp_path: Path) -> None:
    """A QuickTime track whose samples lie elsewhere: its `dref` names a canary."""
    inside = write_video(tmp_path / "canary.mov", shades([40, 200], 10))
    content = inside.read_bytes()
    dref = content.index(b"dref")
    assert content[dref + 16 : dref + 20] == b"url "
    alias = _alias(inside)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    grown = len(entry) - 12
    moov = content.index(b"moov") - 4
    assert moov > content.index(b"mdat")
    changed = bytearray(content[: dref + 12] + entry + content[dref + 24 :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = changed.index(box, moov) - 4
        changed[at : at + 4] = struct.pack(">I", struct.unpack(">I", changed[at : at + 4])[0] + grown)
    samples = content.index(b"mdat") + 4
    changed[samples:moov] = bytes(moov - samples)
    path = tmp_path / "crawl.mov"
    path.write_bytes(changed)
    followed = run_ffmpeg("-enable_drefs", 1, "-use_absolute_path", 1, "-i", path, "-f", "rawvideo", "-")
    assert followed  # FFmpeg would, if it were allowed to
    outcome = decode(request(path, AllFrames()), MediaSettings())
    assert isinstance(outcome, Content)
    assert not outcome.pictures


def _alias(target: Path) -> bytes:
    """An alias record of classic Mac OS, as QuickTime writes it, that names a file by its path."""
    fixed = bytearray(150)
    fixed[10] = 6
    fixed[11:17] = b"volume"
    fixed[50] = len(target.name)
    fixed[51 : 51 + len(target.name)] = target.name.encode()
    fixed[130:134] = struct.pack(">hh", 1, 1)
    path = str(target).encode()
    path += b"\0" * (len(path) % 2)
    records = struct.pack(">hH", 2, len(path)) + path + struct.pack(">hH", -1, 0)
    return bytes(fixed) + records


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("[mov,mp4,m4a @ 0x55d0c8a3f2c0] moov atom not found", "[mov,mp4,m4a] moov atom not found"),
        ("bad pointer 0x7f09cdfc1120", "bad pointer 0x…"),
        ("/tmp/nmcl-videos-x8d/12.mp4: Invalid data", "12.mp4: Invalid data"),
        ("file:/home/a/b.mp4 is odd", "b.mp4 is odd"),
        ("codec 0x1f, 3/4 of it", "codec 0x1f, 3/4 of it"),
    ],
)
def test_details_are_the_same_in_every_run(said: str, kept: str) -> None:
    assert stable(said) == kept
