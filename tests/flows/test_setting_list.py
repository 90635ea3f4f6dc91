"""Every setting has a meaning, and a settings file can be edited and read back."""

import re
from pathlib import Path

import pytest

from nmcl.extractors.registry import EXTRACTORS
from nmcl.flows.cli.settings_reference import with_settings
from nmcl.flows.setting_list import ListedSetting, listed_settings, to_toml
from nmcl.flows.settings import Settings, from_tree, to_tree
from nmcl.flows.settings_tree import load_tree
from nmcl.model.registry import MODELS
from nmcl.pipeline.errors import SettingsError

DOCS = Path(__file__).parents[2] / "docs"


def of_all_kinds() -> list[Settings]:
    """Settings that together have every model and every extractor."""
    models = [from_tree({"model": {"name": name}}) for name in MODELS]
    return [*models, *(from_tree({"features": {"own": {"extractor": name}}}) for name in EXTRACTORS)]


def test_every_setting_of_every_model_and_extractor_has_a_meaning() -> None:
    rows = {row.name: row for settings in of_all_kinds() for row in listed_settings(settings)}
    assert [name for name, row in rows.items() if not re.search(r"[a-z].*\.$", row.meaning)] == []
    assert rows["split.seed"].meaning.startswith("Seed of the assignment")
    assert set(rows["model.gate"].choices) == {"sigmoid", "softmax_scaled", "paper"}
    assert rows["features.visual.weights"].choices == ()


def test_the_rows_are_the_settings() -> None:
    for settings in of_all_kinds():
        names: list[str] = []

        def flatten(tree: dict[str, object], above: str = "", names: list[str] = names) -> None:
            for name, value in tree.items():
                if isinstance(value, dict):
                    flatten(value, f"{above}{name}.")
                else:
                    names.append(above + name)

        flatten(to_tree(settings))
        assert sorted(row.name for row in listed_settings(settings)) == sorted(names)


CHANGED = [
    "split.seed=3",
    'columns.text=caf\u00e9 \\"x\\" \U0001f600\x7f',
    "features.acoustic.extractor=none",
    "features.more.extractor=logmel",
    "model.name=mlp",
    "model.train.learning_rate=1e-5",
    'ingest.absent=["-", "?"]',
    "completion.regularization=0.5",
]


@pytest.mark.parametrize("assignments", [[], CHANGED])
def test_a_settings_file_changes_nothing_until_it_is_edited(assignments: list[str], tmp_path: Path) -> None:
    settings = from_tree(load_tree(None, assignments))
    text, file = to_toml(listed_settings(settings)), tmp_path / "settings.toml"
    file.write_text(text, encoding="utf-8")
    assert from_tree(load_tree(file)) == settings
    every = re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE)  # as if the user had set each one
    file.write_text(every, encoding="utf-8")
    assert from_tree(load_tree(file)) == settings
    file.write_text(every.replace("\nmin_venue_videos = 50\n", "\nmin_venue_videos = 7\n"), encoding="utf-8")
    assert from_tree(load_tree(file)).split.min_venue_videos == 7
    if not assignments:
        values = [line for line in text.splitlines() if line and line[0] not in "#["]
        assert values == []  # all are comments


def test_a_section_or_one_setting_can_be_chosen() -> None:
    def names(section: str) -> list[str]:
        return [row.name for row in listed_settings(Settings(), section)]

    assert names("split.seed") == ["split.seed"]
    assert names("model.train")[0] == "model.train.learning_rate"
    assert "features.visual.weights" in names("features")
    with pytest.raises(SettingsError, match=r"There is no section or setting 'splt'. Did you mean split\?"):
        listed_settings(Settings(), "splt")


def test_a_changed_setting_is_distinguished_from_its_default() -> None:
    settings = from_tree({"split": {"seed": 1}, "model": {"name": "mlp"}})
    changed = {row.name: row for row in listed_settings(settings) if row.is_changed}
    assert set(changed) == {"split.seed", "model.name"}
    assert changed["split.seed"] == ListedSetting("split.seed", changed["split.seed"].meaning, 0, 1)


@pytest.mark.parametrize("page", ["settings.md", "methods.md"])
def test_the_pages_have_the_meanings(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert with_settings(text) == text, "Run: python -m nmcl.flows.cli.settings_reference docs/*.md"
    assert with_settings(text.replace("`split.seed` | `0` |", "`split.seed` | `1` |")) == text
