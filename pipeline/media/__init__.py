"""Decoding of untrusted media: the only package that runs PyAV's and ffmpeg's decoders.

A file is opened in a child process that can be killed. The result is one Content, with separate outcomes for picture
and sound, or one ClipError if nothing of the file can be used. A child that hangs or crashes is replaced; no other file
is affected.
"""

from nmcl.pipeline.media.decode import Request, decode
from nmcl.pipeline.media.limits import AHEAD, CODE_VERSION, MediaSettings
from nmcl.pipeline.media.pool import Decoder

__all__ = [
    "AHEAD",
    "CODE_VERSION",
    "Decoder",
    "MediaSettings",
    "Request",
    "decode",
]
