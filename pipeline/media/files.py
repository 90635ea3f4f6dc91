"""Opening of untrusted files: possibly a pipe, a device, a playlist, or not the file that was ingested."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from nmcl.pipeline.errors import ClipError

if TYPE_CHECKING:
    from av.container import InputContainer


@contextmanager
def opened(path: Path, sha256: str = "", n_bytes: int | None = None) -> Iterator[BinaryIO]:
    """Open an ordinary file for reading, and verify that its bytes stay the same within the block.

    Args:
        sha256: Required 64 hex digits of the content; empty for any.
        n_bytes: Required size of the file; None for any.

    Raises:
        ClipError: `missing` (not there, or cannot be opened), `unreadable` (empty, or not an ordinary file),
            `changed` (other bytes than expected, or written to meanwhile).
    """
    file = _open(path)
    with file:
        before = _version(file)
        if n_bytes is not None and before[0] != n_bytes:
            raise _changed(f"found {before[0]:,} bytes; expected {n_bytes:,}")
        if sha256 and (found := _sha256(file)) != sha256:
            raise _changed(f"found {before[0]:,} bytes, sha256 {found[:12]}; expected sha256 {sha256[:12]}")
        if not before[0]:
            raise ClipError("unreadable", "an empty file")
        yield file
        if _version(file) != before:
            raise _changed("it was written to while it was read")


def _open(path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # before opening, as opening a device may have side effects
            raise ClipError("unreadable", "not an ordinary file (a folder, a pipe or a device)")
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ClipError("missing", "there is no such file") from error
    except OSError as error:
        raise ClipError("missing", f"the file cannot be opened ({error.strerror})") from error
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise ClipError("unreadable", "not an ordinary file (a folder, a pipe or a device)")
    return file


def _version(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def _sha256(file: BinaryIO) -> str:
    found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    return found


def _changed(found: str) -> ClipError:
    return ClipError("changed", f"the file is not the one that was ingested ({found}): ingest the crawl again")


@contextmanager
def container_of(file: BinaryIO, path: Path, max_pixels: int) -> "Iterator[InputContainer]":
    """Open the file as a media container, from its beginning.

    Raises:
        ClipError: `unreadable`: FFmpeg knows no such container, or the container holds no pictures or sound itself.
    """
    import av

    file.seek(0)
    options = {**_SELF_CONTAINED, "max_pixels": str(max_pixels)}
    try:
        container = av.open(_Named(file, path.suffix), "r", options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, MemoryError):
            raise
        reason = getattr(error, "strerror", None) or "its header makes no sense"
        raise ClipError("unreadable", f"not a media file that FFmpeg knows ({reason})") from error
    with container:
        yield container


class _Named:
    """Open file under a name of our own: FFmpeg guesses the container by content, then by the suffix."""

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        self.name = f"file{suffix}"
        self.read, self.tell = file.read, file.tell
        self._seek = file.seek

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek like a file. An impossible offset, which a damaged header may name, fails with FFmpeg's own error."""
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            return -errno.EINVAL


FORMATS = (
    # containers of picture and sound
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,live_flv,kux,asf,asf_o,mpeg,mpegts,mpegvideo,ogg,rm,ivr,nut,mxf,gxf,"
    "wtv,swf,amv,dv,nsv,pva,ty,vivo,nuv,mlv,r3d,ivf,dhav,xmv,pmp,psp,smk,bink,roq,thp,film_cpk,flic,4xm,dxa,avs,mtv,"
    "smjpeg,yuv4mpegpipe,gif,apng,webp_anim,jpegxl_anim,"
    # one stream, without a container
    "h261,h263,h264,hevc,vvc,evc,av1,obu,m4v,mjpeg,mjpeg_2000,vc1,vc1test,cavsvideo,avs2,avs3,dirac,dnxhd,apv,ipu,"
    # sound
    "wav,w64,mp3,aac,ac3,ac4,eac3,truehd,mlp,dts,dtshd,loas,flac,amr,amrnb,amrwb,aiff,au,caf,ape,wv,tta,tak,mpc,mpc8,"
    "oma,dsf,iff,sox,voc,qcp,gsm,spx,xwma,shn,ircam,avr,paf,pvf,nistsphere,bonk,osq,rka,wavarc,qoa,lc3,iamf,wsd,"
    # single pictures
    "jpeg_pipe,png_pipe,webp_pipe,bmp_pipe"
)
"""Demuxers of FFmpeg that read nothing but the file itself. Playlists and scripts (hls, dash, concat, sdp, imf),
file name patterns, capture devices, subtitles and raw bytes are excluded."""

_SELF_CONTAINED = {"format_whitelist": FORMATS, "protocol_whitelist": "none", "enable_drefs": "0"}
"""Options that block a file's references to other files or addresses."""
