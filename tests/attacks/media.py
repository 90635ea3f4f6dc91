"""Files that want more than to be played: each function puts some into a crawl and says which."""

import gzip
import os
import socket
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import imageio_ffmpeg

from tests.attacks.watching import Trap
from tests.media import shades, tone, write_video

Made = Iterator[tuple[str, bytes]]


def playlists(trap: Trap) -> Made:
    """Lists and descriptions of other media, by other names than theirs."""
    targets = {
        "file": f"file://{trap.folder}/secret.mp4",
        "path": f"{trap.folder}/secret.mp4",
        "up": "../trap/secret.mp4",
        "url": f"{trap.url}/a.mp4",
    }
    for how, target in targets.items():
        yield f"hls-{how}.mp4", f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n".encode()
        yield f"m3u-{how}.avi", f"#EXTM3U\n#EXTINF:9,x\n{target}\n".encode()
        yield f"pls-{how}.mov", f"[playlist]\nFile1={target}\nNumberOfEntries=1\nVersion=2\n".encode()
        yield f"concat-{how}.mp4", f"ffconcat version 1.0\nfile '{target}'\nduration 2\n".encode()
        yield f"concat-{how}.mkv", f"ffconcat version 1.0\nfile {target}\n".encode()
        yield f"asx-{how}.wmv", f'<asx version="3.0"><entry><ref href="{target}"/></entry></asx>'.encode()
        yield f"smil-{how}.mp4", f'<smil><body><video src="{target}"/></body></smil>'.encode()
        yield (
            f"dash-{how}.mp4",
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'mediaPresentationDuration="PT2S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
            '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
            f"<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>".encode(),
        )
        yield (
            f"rtsptext-{how}.mov",
            f"RTSPtext\n{target}\n".encode(),
        )
        key = f'#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n'
        yield f"hls-key-{how}.webm", f"{key}#EXTINF:9,\ngood-0.mp4\n#EXT-X-ENDLIST\n".encode()
    yield (
        "sdp.mp4",
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {trap.port} RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n".encode(),
    )
    yield "concat-inside.mp4", b"ffconcat version 1.0\nfile good-0.mp4\n"
    yield "concat-link.mp4", b"ffconcat version 1.0\nfile link-out.mp4\n"
    yield "pattern-%03d.mp4", b"GIF89a"


def scripts(trap: Trap) -> Made:
    """Programs that some player or importer might run."""
    yield "shell.mp4", f"#!/bin/sh\ntouch {trap.ran}\n".encode()
    yield "python.avi", f"open({str(trap.ran)!r}, 'w')\n".encode()
    yield "avisynth.avi", f'DirectShowSource("{trap.folder}/secret.mp4")\n'.encode()
    yield "vapoursynth.mov", f"import vapoursynth\nopen({str(trap.ran)!r}, 'w')\n".encode()
    yield "graph.mp4", f"movie={trap.folder}/secret.mp4\n".encode()
    yield "svg.mp4", f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{trap.url}/x"/></svg>'.encode()
    yield "html.webm", f'<html><video src="{trap.url}/x.mp4"></html>'.encode()
    yield "pickle.mp4", b"cos\nsystem\n(S'touch " + str(trap.ran).encode() + b"'\ntR."


def references(trap: Trap, good: bytes) -> Made:
    """Containers whose media are said to be in other files."""
    for kind in (b"url ", b"alis"):
        for name in (f"{trap.folder}/secret.mp4", f"file://{trap.folder}/secret.mp4", f"{trap.url}/a.mp4"):
            location = name.encode() + b"\0"
            entry = struct.pack(">I4sI", 12 + len(location), kind, 0) + location
            yield f"dref-{kind.decode().strip()}-{abs(hash(name)) % 1000}.mov", with_reference(good, entry)
    movie = struct.pack(">I4sI4sI", 0, b"rdrf", 0, b"url ", len(trap.url) + 1) + trap.url.encode() + b"\0"
    movie = struct.pack(">I", len(movie)) + movie[4:]
    for outer in (b"rmda", b"rmra", b"moov"):
        movie = struct.pack(">I4s", len(movie) + 8, outer) + movie
    yield "reference-movie.mov", struct.pack(">I4s4sI", 16, b"ftyp", b"qt  ", 0) + movie


def with_reference(good: bytes, entry: bytes) -> bytes:
    """An MP4 file with another entry in each table of data references."""

    def boxes(data: bytes) -> bytes:
        made, at = b"", 0
        while at + 8 <= len(data):
            size, name = struct.unpack(">I4s", data[at : at + 8])
            size = size or len(data) - at
            body = data[at + 8 : at + size]
            if name in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
                body = boxes(body)
            elif name == b"dref":
                body = struct.pack(">II", 0, 1) + entry
            made += struct.pack(">I4s", len(body) + 8, name) + body
            at += size
        return made

    return boxes(good)


def bombs() -> Made:
    """Little that says it is much."""

    def png(side: int) -> bytes:
        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
        row = bytes(1 + (side + 7) // 8)
        packer = zlib.compressobj(9)
        pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")

    yield "png-30000.mp4", png(30_000)
    yield "png-16000.mov", png(16_000)
    yield "gif-65535.mp4", b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"," + struct.pack(
        "<HHHHB", 0, 0, 65535, 65535, 0
    ) + b"\x02\x02\x44\x01\x00;"  # fmt: skip
    lossless = b"\x2f" + struct.pack("<I", 16382 | 16382 << 14) + bytes(8)
    yield "webp-16383.mp4", b"RIFF" + struct.pack("<I", 26) + b"WEBPVP8L" + struct.pack("<I", 13) + lossless
    yield "y4m-99999.mp4", b"YUV4MPEG2 W99999 H99999 F25:1 Ip C420jpeg\nFRAME\n" + bytes(9999)
    yield "wav-4gb.mp4", b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack(
        "<IHHIIHH", 16, 1, 65535, 192_000, 192_000 * 2, 2, 16
    ) + b"data\xff\xff\xff\xff" + bytes(9999)  # fmt: skip
    yield "zeros.mp4", gzip.compress(bytes(50 * 2**20))
    yield "boxes.mp4", struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + nested(b"moov", 4000)
    yield "ebml.mkv", b"\x1aE\xdf\xa3\x80" + b"\x18S\x80g\x01\xff\xff\xff\xff\xff\xff\xff" * 4000


def nested(name: bytes, depth: int) -> bytes:
    """Boxes in boxes."""
    return b"".join(struct.pack(">I4s", 8 * (depth - i), name) for i in range(depth))


def unsafe_lists(path: Path, trap: Trap) -> None:
    """What is no regular file inside the crawl, by names of videos and of sidecars."""
    links: dict[str, Path | str] = {
        "link-passwd.mp4": "/etc/passwd",
        "link-out.mp4": trap.folder / "secret.mp4",
        "link-up.mp4": f"../{trap.folder.name}/secret.mp4",
        "link-itself.mp4": "link-itself.mp4",
        "link-zero.mp4": "/dev/zero",
        "link-memory.mp4": "/proc/self/mem",
        "good-0.description": trap.folder / "secret.txt",
        "good-1.info.json": trap.folder / "secret.txt",
        "loop": ".",
        "outside": trap.folder,
    }
    for name, target in links.items():
        (path / name).symlink_to(target)
    os.link(path / "good-0.mp4", path / "hard-link.mp4")
    for name in ("fifo.mp4", "good-2.info.json", "good-2.description"):
        os.mkfifo(path / name)
    (path / "folder.mp4").mkdir()
    (path / "good-3.info.json").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    try:
        os.chdir(path)  # the path of a socket has at most 107 bytes
        listener.bind("socket.mp4")
    finally:
        os.chdir(here)
        listener.close()
    if os.geteuid() == 0:
        try:
            os.mknod(path / "device.mp4", 0o20666, os.makedev(1, 5))
        except PermissionError:  # in a container
            return


def attached(path: Path, good: Path) -> None:
    """A Matroska file with attachments and one that says it goes on in another."""
    script = path / "x.sh"
    script.write_text("#!/bin/sh\n")
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", "-i", str(good), "-c", "copy"]
    subprocess.run(
        [*ffmpeg, "-attach", str(script), "-metadata:s:t", "mimetype=../../x", "-metadata:s:t",
         "filename=../../../../tmp/x.sh", str(path / "attachment.mkv")],
        check=True,
    )  # fmt: skip
    script.unlink()


def good_videos(path: Path, n: int = 8) -> list[str]:
    """Videos that everybody wants."""
    for i in range(n):
        write_video(path / f"good-{i}.mp4", shades([30 + 90 * (i % 2) + i, 90 + i], 8), sound=tone(300 + 40 * i, 1.5))
    return [f"good-{i}.mp4" for i in range(n)]


def fill(crawl: Path, trap: Trap) -> dict[str, list[str]]:
    """All of it. Returns the names of the files of each kind."""
    crawl.mkdir()
    good = good_videos(crawl)
    sound = (crawl / "good-0.mp4").read_bytes()
    kinds: dict[str, Callable[[], Made]] = {
        "playlist": lambda: playlists(trap),
        "script": lambda: scripts(trap),
        "reference": lambda: references(trap, sound),
        "bomb": bombs,
    }
    names = {"good": good}
    for kind, make in kinds.items():
        names[kind] = []
        for name, data in make():
            (crawl / name).write_bytes(data)
            names[kind].append(name)
    attached(crawl, crawl / "good-0.mp4")
    unsafe_lists(crawl, trap)
    return names
