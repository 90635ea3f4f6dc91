"""Checks of a stored state, because compiled code uses its arrays and trusts their shapes."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.records import State


@contextmanager
def checking_state(name: str) -> Iterator[None]:
    """Convert a ValueError or KeyError of the checks in the block to a StoreError for the state's folder `name`."""
    try:
        yield
    except (KeyError, ValueError) as error:
        found = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise StoreError(
            f"The state in states/{name}-... of the store is damaged or was not written by nmcl ({found[:300]}). "
            "Delete that folder, and repeat the command that created it."
        ) from error


def require_array(state: State, name: str, shape: tuple[int | None, ...], dtype: type = np.float32) -> np.ndarray:
    """Return an array of a state; raise ValueError or KeyError unless it has this shape and type, and is finite.

    Args:
        shape: None: any number above 0.
    """
    array = state.arrays[name]
    fits = array.ndim == len(shape) and all(n > 0 and w in (None, n) for n, w in zip(array.shape, shape, strict=True))
    if not fits or array.dtype != dtype:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, expected {np.dtype(dtype)} of ({wanted})")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite")
    return array
