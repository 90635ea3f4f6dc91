"""File names for ids of videos, which may hold any characters."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,100}")


def safe_names(ids: Sequence[str]) -> list[str]:
    """Return a file name without suffix for each id, unique even where the disk ignores case.

    An id of letters, digits, `_` and `-` is its own name. Of others, each different character becomes `_`, and the
    beginning of the id's SHA-256 follows. No name holds a dot or a slash, so none leaves its folder.

    Args:
        ids: Unique ids.
    """
    n_alike = Counter(video_id.lower() for video_id in ids)
    is_plain = [bool(_PLAIN.fullmatch(i)) and n_alike[i.lower()] == 1 for i in ids]
    taken = {video_id.lower() for video_id, plain in zip(ids, is_plain, strict=True) if plain}
    names = []
    for video_id, plain in zip(ids, is_plain, strict=True):
        name = video_id if plain else _made(video_id, taken)
        taken.add(name.lower())
        names.append(name)
    return names


def _made(video_id: str, taken: set[str]) -> str:
    stem = re.sub(r"[^A-Za-z0-9_-]", "_", video_id)[:80]
    digest = hashlib.sha256(video_id.encode("utf-8", "surrogatepass")).hexdigest()
    return next(name for n in range(8, 65) if (name := f"{stem}-{digest[:n]}").lower() not in taken)
