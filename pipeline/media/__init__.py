"""Decoding untrusted media: the only place where PyAV's and ffmpeg's decoders run.

A file is opened in a child process that can be killed. It comes back as one Clip, picture and sound each with an
outcome of its own, or as one ClipError where nothing of the file can be used. A child that hangs or crashes is
replaced; no other file is affected.
"""

from nmcl.pipeline.media.decode import Request, decode
from nmcl.pipeline.media.frames import FrameSelector, TimedFrame
from nmcl.pipeline.media.limits import AHEAD, CODE_VERSION, SAMPLE_RATE_HZ, MediaSettings
from nmcl.pipeline.media.pool import Decoder

__all__ = [
    "AHEAD",
    "CODE_VERSION",
    "SAMPLE_RATE_HZ",
    "Decoder",
    "FrameSelector",
    "MediaSettings",
    "Request",
    "TimedFrame",
    "decode",
]
