"""What the JSON files of a store hold, as far as it is read back: `Store.read_json` checks each file by its name.

A file may have more keys than are named here: other versions write them.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal, NotRequired

from annotated_types import Ge, Len
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

Address = Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
"""See `nmcl.pipeline.storage.artifacts.digest`."""
RunFolder = Annotated[str, Field(pattern=r"^runs/[^/.][^/]*$")]
Name = Annotated[str, Field(pattern=r"^[^/\x00]+$")]
Count = Annotated[int, Ge(0)]
Section = dict[str, Any]


def _having(*names: str) -> AfterValidator:
    def check(found: dict[str, Any]) -> dict[str, Any]:
        if missing := [name for name in names if name not in found]:
            raise ValueError(f"{missing[0]} is missing")
        return found

    return AfterValidator(check)


class Marker(TypedDict):
    """`store.json`."""

    format: int


class Pointer(TypedDict):
    """`latest.json` and `champion.json`."""

    leads_to: RunFolder


class Part(TypedDict):
    """See `nmcl.pipeline.storage.catalogue.Part`."""

    key: Address
    rows: Address
    n_videos: Annotated[int, Ge(1)]


class Crawl(TypedDict):
    """See `nmcl.pipeline.storage.catalogue.Crawl`."""

    name: Name
    folder: str
    parts: list[Part]
    notes: list[str]


class Catalogue(TypedDict):
    """`catalogue.json`, that of a run, and those of predicted crawls."""

    crawls: list[Crawl]


class Change(TypedDict):
    """See `nmcl.pipeline.storage.champions.Entry`."""

    run: RunFolder
    before: str | None
    how: Literal["first", "retrain", "promote", "rollback"]
    why: str
    who: str
    when: str
    data: dict[str, Any]
    metrics: dict[str, Any]


class Champions(TypedDict):
    """`champions.json`."""

    history: list[Change]


class RunRecipe(TypedDict):
    """`recipe.json` of a run."""

    completed: Address


class CompletedRecipe(TypedDict):
    """Of completed vectors."""

    completion: Address


class CompletionRecipe(TypedDict):
    """Of a completer's state."""

    features: Annotated[list[Address], Len(3, 3)]


class FeaturesRecipe(TypedDict):
    """Of the vectors of a modality."""

    state: Address | None


class Scores(TypedDict):
    """What a model scored on one split."""

    micro_f1: float | None
    macro_f1: float | None
    auc_micro: float | None
    auc_macro: float | None
    top5: float | None
    n_rows: Count


class Metrics(TypedDict):
    """`metrics.json`."""

    test: Scores
    validation: Scores
    modality: dict[str, Scores]
    counts: Annotated[dict[str, Count], _having("videos", "train", "validation", "test", "unlabelled")]
    notices: list[str]
    seconds: dict[str, float]
    extract_seconds: NotRequired[dict[str, float]]


class Model(TypedDict):
    """`model.json`; `nmcl.model.checkpoint` checks the rest."""

    venues: list[str]


class Timing(TypedDict):
    """How long a stage took."""

    seconds: float
    spent: NotRequired[dict[str, float]]


class News(TypedDict):
    """See `nmcl.flows.retrain.new_data.News`."""

    crawl: str
    n_videos: Count
    n_labelled: Count
    n_known: Count
    n_renamed: Count
    n_relabelled: Count


class Figure(TypedDict):
    """See `nmcl.pipeline.stages.drift.Figure`."""

    value: float | None
    by_chance: float | None
    p_value: float | None
    limit: float
    n_reference: Count
    n_new: Count
    exceeded: bool


class Venues(TypedDict):
    """That came and went."""

    learnt_anew: list[str]
    too_few: list[str]
    not_seen: list[str]
    dropped: list[str]


class Limits(TypedDict):
    """See `nmcl.pipeline.stages.drift.DriftSettings`."""

    min_rows: Count


class Drifted(TypedDict):
    """What later retrainings read of `drift.json`."""

    crawls: dict[str, str]
    stopped: bool
    when: str


class Drift(Drifted):
    """All of `drift.json`."""

    champion: str
    figures: dict[str, dict[str, Figure]]
    exceeded: list[str]
    settings: Limits
    news: list[News]
    venues: Venues


class Slice(TypedDict):
    """See `nmcl.model.comparison.Slice`."""

    n_rows: Count
    champion: dict[str, float | None]
    challenger: dict[str, float | None]
    gain: float | None
    interval: Annotated[list[float], Len(2, 2)] | None
    wins: Count
    losses: Count
    p_value: float | None


class Slices(TypedDict):
    """Of one comparison."""

    frozen: Slice
    fresh: Slice
    together: Slice


class Decided(TypedDict):
    """Whether a challenger was promoted, and which crawls were doubted."""

    promoted: bool
    doubted: list[str]


class Compared(TypedDict):
    """What later retrainings read of `comparison.json`."""

    crawls: dict[str, str]
    verdict: Decided
    when: str


class Verdict(Decided):
    """See `nmcl.model.comparison.Verdict`."""

    reasons: list[str]


class Comparison(TypedDict):
    """All of `comparison.json`."""

    crawls: dict[str, str]
    when: str
    champion: str
    comparison: Slices
    verdict: Verdict
    rule: dict[str, Any]


class LeftOut(TypedDict):
    """`left_out.json`: see `nmcl.flows.run.plan.LeftOut`."""

    videos: list[dict[str, str]]
    attempts: Count


_SHAPES: tuple[tuple[str, Any], ...] = (
    (r"store\.json", Marker),
    (r"(latest|champion)\.json", Pointer),
    (r"(.+/)?catalogue\.json|predicted/.+\.json", Catalogue),
    (r"(.+/)?settings\.json", dict[str, Section]),
    (r"champions\.json", Champions),
    (r"runs/.+/recipe\.json", RunRecipe),
    (r"completed/.+/recipe\.json", CompletedRecipe),
    (r"states/completion-.+/recipe\.json", CompletionRecipe),
    (r"features/.+/recipe\.json", FeaturesRecipe),
    (r"(.+/)?metrics\.json", Metrics),
    (r"runs/.+/model\.json", Model),
    (r"timings/.+\.json", Timing),
    (r"(.+/)?drift\.json", Drifted),
    (r"(.+/)?comparison\.json", Compared),
    (r".+/left_out\.json", LeftOut),
    (r".+/(state|recipe)\.json", dict[str, Any]),
)
"""By a pattern of the whole name, the first that fits."""


def of(name: str) -> Any:
    """What a file of the store must hold, by its name in it."""
    return next((kind for pattern, kind in _SHAPES if re.fullmatch(pattern, name, re.DOTALL)), Any)


def require(kind: Any, content: Any) -> None:
    """Raises ValueError unless JSON content is of a type."""
    try:
        adapter(kind).validate_python(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"][:8]) or "the content"
        raise ValueError(f"{where}: {first['msg']}") from error


adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)
"""Of a type; making one takes milliseconds."""
