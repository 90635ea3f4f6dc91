"""Failures listed by `nmcl errors`: videos of a store without frames or sound, and rejected manifest rows."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from nmcl.flows.run.plan import Plan
from nmcl.flows.settings import Settings
from nmcl.pipeline.errors import MediaError, UserError
from nmcl.pipeline.records import MODALITIES
from nmcl.pipeline.stages.extract import n_failed
from nmcl.pipeline.storage.catalogue import all_catalogues, load_catalogue, load_part
from nmcl.pipeline.storage.failures import WHAT_TO_DO, load_failures
from nmcl.pipeline.storage.lineage import decoding_of_champion, recorded_failures
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import read_table

REJECTED = "rejected"
"""Failure kind of a manifest row that cannot be used."""


@dataclass(frozen=True)
class FailedVideo:
    """One failure of one video."""

    video_id: str
    crawl: str
    path: str
    modality: str
    """Missing modalities: `visual`, `acoustic`, or `visual, acoustic`; empty for a rejected row."""
    kind: str
    detail: str
    attempts: int


@dataclass(frozen=True)
class FailedKind:
    """All failures of one kind."""

    kind: str
    count: int
    """Number of videos, or of manifest rows."""
    modality: str
    example: str
    what_to_do: str


def failed_videos(store: Store, settings: Settings, kind: str | None = None) -> Iterator[FailedVideo]:
    """Yield every recorded failure, crawl by crawl; with `kind`, only failures of this kind."""
    if kind in (None, REJECTED):
        yield from _rejected(store)
    recorded = recorded_failures(store, settings.media.address(), decoding_of_champion(store))
    seen: set[str] = set()
    for name in all_catalogues(store):
        for crawl, part in load_catalogue(store, name).parts():
            failures = None if part.key in seen else recorded.of(part)
            seen.add(part.key)
            for video in load_part(store, part) if failures else ():
                for f in (failures or {}).get(video.video_id, ()):
                    if kind in (None, f.kind):
                        modality = f.modality or "visual, acoustic"
                        yield FailedVideo(
                            video.video_id, crawl.name, video.path, modality, f.kind, f.detail, f.attempts
                        )


def require_kind(kind: str, kinds: Collection[str] = WHAT_TO_DO.keys()) -> None:
    """Raise UserError if there is no such kind of failure."""
    if kind not in kinds:
        raise UserError(f"--kind {kind}: no such kind of failure. Expected one of {', '.join(sorted(kinds))}.")


def _rejected(store: Store) -> Iterator[FailedVideo]:
    """Yield the manifest rows that could not be used. See `nmcl.pipeline.stages.ingest`."""
    for name in store.list("videos"):
        if name.startswith("rejected-"):
            crawl = name.removeprefix("rejected-").removesuffix(".parquet")
            for row in read_table(store, f"videos/{name}").to_pylist():
                detail = f"line {row['line']}: {row['problem']}"
                yield FailedVideo(row["video_id"] or "", crawl, row["path"] or "", "", REJECTED, detail, 1)


def by_kind(videos: Iterable[FailedVideo]) -> list[FailedKind]:
    """Return the failures grouped by kind, the most frequent first."""
    found: dict[str, list[FailedVideo]] = {}
    for video in videos:
        found.setdefault(video.kind, []).append(video)
    rows = []
    for kind, of_kind in sorted(found.items(), key=lambda item: (-len(item[1]), item[0])):
        lacking = {m for video in of_kind for m in video.modality.split(", ")}
        first = of_kind[0]
        rows.append(
            FailedKind(
                kind=kind,
                count=len(of_kind) if kind == REJECTED else len({(v.crawl, v.video_id) for v in of_kind}),
                modality=", ".join(m for m in MODALITIES if m in lacking),
                example=f"{first.path or first.crawl}: {first.detail}",
                what_to_do=WHAT_TO_DO.get(kind, ""),
            )
        )
    return rows


def refuse_failed(plan: Plan) -> None:
    """Raise MediaError if more videos than `media.max_failed_share` have neither frames nor sound."""
    limit = plan.settings.media.max_failed_share
    n = sum(n_failed(load_failures(plan.store, plan.failures, part)) for _, part in plan.catalogue.parts())
    if n > limit * plan.catalogue.n_videos:
        raise MediaError(
            f"{n:,} of {plan.catalogue.n_videos:,} videos have neither picture nor sound, more than "
            f"media.max_failed_share={limit:g} allows. All other videos are finished. "
            f"`nmcl errors --out {plan.store.url}` lists the failures and what to do."
        )
