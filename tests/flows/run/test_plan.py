"""What extractors are fitted on, and which addresses a change of settings or data touches."""

from dataclasses import replace
from pathlib import Path

import pytest

from nmcl.flows.run.lineage import FrozenStates
from nmcl.flows.run.plan import Plan
from nmcl.flows.settings import Settings, from_tree, to_tree
from nmcl.flows.settings_tree import load_tree, merged
from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.catalogue import Catalogue, Crawl, make_part
from nmcl.pipeline.storage.store import Store

SETTINGS = from_tree(
    load_tree(
        assignments=[
            "features.words.extractor=none",
            "features.visual.extractor=efficientnet_lite0",
            "split.min_venue_videos=5",
        ]
    )
)


def video(i: int, venue: str | None, sha256: str = "") -> Video:
    return Video(f"v{i}", "crawl", f"v{i}.mp4", sha256 or f"{i:064x}", 1, f"words of {i}", venue, None, None)


def videos() -> list[Video]:
    labelled = [video(i, "Beach" if i % 2 else "Street") for i in range(40)]
    return [*labelled, *(video(i, None) for i in range(40, 50))]


def plan_of(tmp_path: Path, rows: list[Video], settings: Settings = SETTINGS) -> Plan:
    store = Store.create(tmp_path / "out")
    return Plan(store, Catalogue((Crawl("crawl", "/nowhere", (make_part(store, rows),), ()),)), settings)


def test_validation_and_test_are_never_learnt_from(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, videos())
    held_out = {v.video_id for v, a in zip(plan.videos, plan.splits.assignments, strict=True) if a.split != "train"}
    unlabelled = {f"v{i}" for i in range(40, 50)}
    learnt_from = {v.video_id for v in plan.fit_videos}
    assert not learnt_from & (held_out - unlabelled)
    assert unlabelled <= learnt_from


def test_neither_is_an_unlabelled_copy_of_a_test_video(tmp_path: Path) -> None:
    first = plan_of(tmp_path, videos())
    tested = next(v for v, a in zip(first.videos, first.splits.assignments, strict=True) if a.split == "test")
    copy = video(99, None, tested.sha256)
    plan = plan_of(tmp_path, [*videos(), copy])
    assert "v99" not in {v.video_id for v in plan.fit_videos}


def test_what_a_test_video_says_changes_no_state(tmp_path: Path) -> None:
    first = plan_of(tmp_path, videos())
    assignments = first.splits.assignments
    changed = [
        replace(v, description="planted words") if a.split in ("validation", "test") else v
        for v, a in zip(videos(), assignments, strict=True)
    ]
    assert plan_of(tmp_path, changed).states == first.states


@pytest.mark.parametrize(
    ("assignment", "changed"),
    [
        ("media.timeout_s=5", set()),
        ("media.workers=1", set()),
        ("features.visual.device=cpu", set()),
        ("features.visual.key_frames=4", {"visual", "completion", "run"}),
        ("features.textual.epochs=3", {"textual", "completion", "run"}),
        ("features.acoustic.max_frames=500", {"acoustic", "completion", "run"}),
        ("media.max_seconds=3", {"visual", "acoustic", "failures", "completion", "run"}),
        ("completion.method=als", {"completion", "run"}),
        ("model.dropout=0.5", {"run"}),
        ("model.name=logistic", {"run"}),
    ],
)
def test_a_setting_touches_only_what_it_decides(tmp_path: Path, assignment: str, changed: set[str]) -> None:
    settings = ["features.words.extractor=none", "features.visual.extractor=efficientnet_lite0"]
    settings += ["split.min_venue_videos=5", assignment]
    before = addresses(plan_of(tmp_path, videos()))
    after = addresses(plan_of(tmp_path, videos(), from_tree(load_tree(assignments=settings))))
    assert {name for name in before if before[name] != after[name]} == changed


def test_other_feature_sets_change_no_address_of_the_first(tmp_path: Path) -> None:
    first = plan_of(tmp_path, videos())
    words = "features.words.extractor=paragraph_vectors"
    more = replace(first, settings=from_tree(merged(to_tree(SETTINGS), load_tree(assignments=[words]))))
    assert {name: more.features[name] for name in first.features} == first.features
    assert more.features["words"].kind == "features/words"
    assert more.features["words"].recipe == more.features["textual"].recipe
    assert more.completion.recipe["features"].keys() == more.features.keys()
    assert more.run != first.run
    frozen = FrozenStates("runs/before", first.states, first.features, first.completion)
    with pytest.raises(ModelError, match="trained on the feature sets visual, acoustic, textual"):
        _ = replace(more, frozen=frozen).features


class TestFrozen:
    """A later crawl with the states and splits of an earlier run."""

    @staticmethod
    def later(plan: Plan, more: int, **changes: object) -> Plan:
        """The plan of a run of more videos that uses the states of `plan`."""
        fresh = [video(i, "Beach" if i % 2 else "Street") for i in range(100, 100 + more)]
        catalogue = plan.catalogue.with_crawl(Crawl("later", "/later", (make_part(plan.store, fresh),), ()))
        frozen = FrozenStates("runs/before", plan.states, plan.features, plan.completion)
        earlier = {video.sha256: split for video, split in plan.placed}
        return replace(plan, catalogue=catalogue, earlier=earlier, frozen=frozen, **changes)  # type: ignore[arg-type]

    def test_vectors_stay_where_they_are_and_the_run_is_another(self, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, videos())
        later = self.later(plan, 30)
        assert later.features == plan.features
        assert later.completed == plan.completed
        assert later.run != plan.run
        assert later.work != plan.work
        thawed = replace(later, frozen=None).features
        same = {m for m in thawed if thawed[m] == plan.features[m]}
        assert same == {"visual"}

    def test_the_same_videos_are_the_same_run(self, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, videos())
        later = self.later(plan, 30)
        assert replace(later, catalogue=plan.catalogue).run == plan.run

    def test_earlier_videos_keep_their_splits_and_new_ones_get_all_three(self, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, videos())
        later = self.later(plan, 30)
        assert later.splits.assignments[:50] == plan.splits.assignments
        assert {a.split for a in later.splits.assignments[50:]} == {"train", "validation", "test"}

    def test_what_starts_from_other_weights_is_another_run(self, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, videos())
        assert self.later(plan, 30).run != self.later(plan, 30, start="runs/nmcl-0").run

    def test_other_vectors_are_refused(self, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, videos())
        other = from_tree(merged(to_tree(SETTINGS), load_tree(assignments=["features.visual.key_frames=2"])))
        with pytest.raises(ModelError, match="Train a new model"):
            _ = self.later(plan, 30, settings=other).features


def addresses(plan: Plan) -> dict[str, str]:
    others = {"completion": plan.completion, "failures": plan.failures, "run": plan.run}
    return {name: artifact.folder for name, artifact in {**plan.features, **others}.items()}
