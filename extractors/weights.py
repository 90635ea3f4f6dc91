"""Network weight files: published ones, verified against their publisher's checksum, and a user's own.

No code in a file is executed.
"""

import contextlib
import hashlib
import os
import re
from pathlib import Path
from typing import Any

import torch

from nmcl.pipeline.errors import StoreError, WeightsError
from nmcl.pipeline.storage.artifacts import digest
from nmcl.pipeline.storage.files import write_whole


def checksum_of(source: str) -> str:
    """Return the first digits of a file's SHA-256, which publishers put in its name: `resnet50-0676ba61.pth`.

    Args:
        source: Path or URL.
    """
    found = re.search(r"-([0-9a-f]{8,64})\.\w+$", source)
    if found is None:
        raise ValueError(f"{source} names no checksum; expected a name such as resnet50-0676ba61.pth")
    return found[1]


def is_published_here(source: str) -> bool:
    """Return whether a published file is on this machine, without checking its content."""
    return _place(source).exists()


def _place(source: str) -> Path:
    path = Path(source)
    return Path(torch.hub.get_dir(), "checkpoints", path.name) if "://" in source else path


def published_file(source: str) -> Path:
    """Return the verified published file; a URL is downloaded once into torch's own cache.

    Raises:
        OSError, RuntimeError: If it cannot be downloaded completely.
        WeightsError: If the file on this machine is not what was published.
    """
    path = _place(source)
    if "://" in source and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(source, str(path), checksum_of(source))
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(checksum_of(source)):
        raise WeightsError(
            f"{path} is not the file that was published: its SHA-256 starts with {found[:8]}, expected "
            f"{checksum_of(source)}. Delete it, and {'run again' if '://' in source else 'reinstall its package'}."
        )
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a user's file, read once: the digest is cached by path, size and modification time.

    Raises:
        WeightsError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            known_by = [os.fsencode(path.resolve()).hex(), status.st_size, status.st_mtime_ns]
            kept = _cache() / f"{digest(known_by, 32)}.sha256"
            with contextlib.suppress(OSError, ValueError):
                if re.fullmatch("[0-9a-f]{64}", found := kept.read_text(encoding="ascii")):
                    return found
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"weights: {path} cannot be read ({error}). Give a .pth or .safetensors file.") from error
    with contextlib.suppress(StoreError):  # then it is computed again next time
        write_whole(kept, found.encode())
    return found


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "nmcl" / "weights"


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return tensors by name from a .safetensors or a .pth file.

    Raises:
        WeightsError: If the file does not exist or holds something else.
    """
    if not path.is_file():
        raise WeightsError(f"weights: there is no file {path}. Give a .pth or .safetensors file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return _plain(load_file(path), path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises anything from KeyError to UnpicklingError
        raise WeightsError(f"weights: {path} is not a weights file ({type(error).__name__}: {error}).") from error
    if isinstance(content, dict):
        content = next((content[key] for key in ("state_dict", "model") if key in content), content)
    return _plain(content, path)


def _plain(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """Return the content as tensors by name that NumPy can hold."""
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in content.items()
    ):
        raise WeightsError(f"weights: {path} contains no named tensors; expected a state dict.")
    if odd := [name for name, t in content.items() if t.layout != torch.strided or t.is_quantized or t.is_meta]:
        raise WeightsError(f"weights: {path} contains {odd[0]!r}, which is not a plain tensor.")
    tensors = {name.removeprefix("module."): tensor.detach() for name, tensor in content.items()}
    return {name: t.float() if t.dtype == torch.bfloat16 else t for name, t in tensors.items()}
