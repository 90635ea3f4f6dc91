"""Validation of a completer's stored state."""

from typing import Annotated, Any, Literal, NotRequired

from annotated_types import Ge, Gt
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from nmcl.pipeline.addressing import with_references
from nmcl.pipeline.completion.base import CompletionSettings
from nmcl.pipeline.records import State
from nmcl.pipeline.storage.shapes import require
from nmcl.pipeline.storage.state_checks import checking_state, require_array


class _Errors(TypedDict):
    per_modality: dict[str, float | None]
    overall: float | None


class _HeldOut(TypedDict):
    nrmse: dict[str, _Errors]


_Line = TypedDict("_Line", {"from": list[str], "to": str})


class _Info(TypedDict):
    """Info that every completer stores."""

    method: Literal["als", "implicit", "mean", "ridge"]
    settings: dict[str, Any]
    blocks: dict[str, Annotated[int, Ge(1)]]
    weight: dict[str, Annotated[float, Gt(0)]]
    never_observed: list[str]
    held_out: NotRequired[_HeldOut]
    lines: NotRequired[list[_Line]]


def check_state(state: State) -> CompletionSettings:
    """Check a completer's state and return the settings of its fit.

    Raises:
        StoreError: If the state is not one that a completer wrote.
    """
    with checking_state("completion"):
        require(_Info, state.info)
        try:
            known = with_references(CompletionSettings, state.info["settings"])
            settings = TypeAdapter(CompletionSettings).validate_python(known)
        except ValidationError as error:
            raise ValueError(f"settings: {error.errors()[0]['msg']}") from error
        _check_scaling(state)
        match state.info["method"]:
            case "als":
                _check_factors(state)
            case "ridge" | "implicit":
                _check_lines(state)
    return settings


def _check_scaling(state: State) -> None:
    for name, width in state.info["blocks"].items():
        state.info["weight"][name]
        require_array(state, f"mean/{name}", (width,))
        if (require_array(state, f"std/{name}", (width,)) < 0).any():
            raise ValueError(f"std/{name} has values below 0")


def _check_factors(state: State) -> None:
    if not isinstance(state.info["lambda"], float | int) or not state.info["lambda"] > 0:
        raise ValueError(f"lambda is {state.info['lambda']!r}, expected a number above 0")
    blocks = state.info["blocks"]
    rank = None
    for name in (name for name in blocks if name not in state.info["never_observed"]):
        rank = len(require_array(state, f"factors/{name}", (rank, blocks[name])))


def _check_lines(state: State) -> None:
    blocks, rank = state.info["blocks"], None
    if state.info["method"] == "implicit":
        rank = require_array(state, "items", (2 * sum(blocks.values()), None)).shape[1]
    for line in state.info["lines"]:
        key = f"{'+'.join(line['from'])}>{line['to']}"
        width = sum(blocks[name] for name in line["from"]) if rank is None else rank
        require_array(state, f"weights/{key}", (width, blocks[line["to"]]))
        require_array(state, f"intercept/{key}", (blocks[line["to"]],))
