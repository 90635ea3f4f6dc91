"""Every artifact that is read back, damaged in any way: a sentence that names what is wrong, or nothing happens."""

import json
import shutil
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from nmcl.extractors.acoustic import AcousticExtractor
from nmcl.extractors.textual import TextualExtractor, unknown_words
from nmcl.flows.cli import summary
from nmcl.flows.engine.run_page import run_page
from nmcl.flows.retrain.new_data import last_verdicts
from nmcl.flows.run import predict
from nmcl.flows.run.evaluation import extract_seconds_of, seconds_of, stored_model
from nmcl.flows.run.lineage import lineage_of
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.prediction import probabilities
from nmcl.flows.run.references import references, unused
from nmcl.flows.run.runs import up_to
from nmcl.flows.run.stages import Context
from nmcl.flows.run.status import status
from nmcl.flows.settings import Settings
from nmcl.flows.stored_settings import of_champion, of_store
from nmcl.pipeline import completion
from nmcl.pipeline.errors import NmclError, StoreError
from nmcl.pipeline.records import Clip
from nmcl.pipeline.stages.complete import load_completed, load_features
from nmcl.pipeline.stages.vectors import load_vectors
from nmcl.pipeline.storage import runs
from nmcl.pipeline.storage.artifacts import TABLES, load_state
from nmcl.pipeline.storage.catalogue import load_catalogue
from nmcl.pipeline.storage.failures import load_failures
from nmcl.pipeline.storage.lineage import completed_with
from nmcl.pipeline.storage.runs import Run
from nmcl.pipeline.storage.store import Store
from tests.forms import LONG, in_both_forms
from tests.media import tone
from tests.records import COMPARISON, DRIFT, RUN

pytestmark = in_both_forms
ARCHIVE = Path(__file__).parents[1] / "data" / "store-28a06ff.tar.xz"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with an artifact of every kind."""
    folder = tmp_path_factory.mktemp("whole")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    store = Store.open(folder / "out")
    Run(store, RUN).write(DRIFT)
    Run(store, RUN).write(COMPARISON)
    (folder / "out" / "latest").unlink(missing_ok=True)
    store.point("latest", RUN)
    lineage = lineage_of(Run(store, RUN))
    plan = Plan(store, load_catalogue(store), of_store(store, {}), lineage.splits, lineage.frozen)
    shutil.copytree(folder / "out" / RUN, folder / "out" / plan.run.folder)  # where this version looks for the run
    store.remove(f"{plan.run.folder}/recipe.json")
    plan.run.note_recipe(store)
    return folder / "out"


def read_everything(root: Path) -> list[NmclError]:
    """Read every artifact of a store and work with it. Returns the errors, which name what is wrong."""
    store = Store(root)
    errors: list[NmclError] = []

    def tried(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except NmclError as error:
            errors.append(error)
            return None

    tried(lambda: Store.open(root))
    tried(lambda: summary.of_runs(store))
    tried(lambda: summary.of_runs(store, as_json=True))
    tried(lambda: status(store))
    tried(lambda: unused(store, references(store, None)))
    tried(lambda: summary.of_run(store))
    tried(lambda: summary.of_drift(Run(store, RUN)))
    tried(lambda: last_verdicts(store))
    tried(lambda: of_champion(Run(store, RUN), {}))
    settings = tried(lambda: of_store(store, {}))
    catalogue = tried(lambda: load_catalogue(store))
    lineage = tried(lambda: lineage_of(Run(store, RUN)))
    model = tried(lambda: stored_model(Run(store, RUN)))
    tried(lambda: predict.load_run(str(root), {}))
    if lineage and settings and catalogue:
        plan = Plan(store, catalogue, settings, lineage.splits, lineage.frozen)
        tried(lambda: seconds_of(plan))
        tried(lambda: extract_seconds_of(plan))
        tried(lambda: run_page(plan))
        frozen = lineage.frozen
        for artifact in frozen.features.values():
            tried(lambda a=artifact: load_features(store, catalogue, a))
            for _, part in catalogue.parts():
                tried(lambda a=artifact, p=part: load_vectors(store, a, p))
        blocks = {
            m: np.full((3, d), np.nan, np.float32) for m, d in (("acoustic", 16), ("textual", 16), ("visual", 1280))
        }
        blocks["acoustic"][0] = blocks["visual"][1] = blocks["textual"][2] = 0.5
        tried(lambda: completion.complete(blocks, load_state(store, frozen.completion)))
        acoustic, textual = (
            AcousticExtractor(settings.features["acoustic"].options),
            TextualExtractor(settings.features["textual"].options),
        )
        clip = Clip(waveform=tone(300, 0.5), text="street night with bikes")
        tried(lambda: acoustic.extract([clip], load_state(store, frozen.states["acoustic"])))
        tried(lambda: textual.extract([clip], load_state(store, frozen.states["textual"])))
        tried(lambda: unknown_words(["street"], load_state(store, frozen.states["textual"])))
        completed = tried(lambda: load_completed(store, catalogue, completed_with(frozen.completion.address)))
        if model and completed:
            tried(lambda: probabilities(model, completed))
        for _, part in catalogue.parts():
            tried(lambda p=part: load_failures(store, frozen.failures or plan.failures, p))
    tried(lambda: runs.promote(runs.find_run(store, "logistic"), "promote", "by hand"))
    tried(lambda: runs.rollback(store))
    return errors


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["", "\x1b", "../a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
BROKEN = (
    b"", b"null", b"[]", b"{}", b"3", b'"x"', b"true", b"\xff\xfe", b"{", b"[" * 100_000, b"NaN", b"1e999",
    b'{"a": "\\ud800"}', b"1" * 10_000, b'{"a": ' * 5000, b"\0" * 64,
)  # fmt: skip


def changed_json(data: st.DataObject, content: Any) -> Any:
    """With one value, somewhere within, of any other kind or gone."""
    if isinstance(content, dict) and content and data.draw(st.integers(0, 5)):
        key = data.draw(st.sampled_from(sorted(content)))
        if not data.draw(st.integers(0, 4)):
            return {k: v for k, v in content.items() if k != key}
        return {**content, key: changed_json(data, content[key])}
    if isinstance(content, list) and content and data.draw(st.integers(0, 5)):
        i = data.draw(st.integers(0, len(content) - 1))
        return [*content[:i], changed_json(data, content[i]), *content[i + 1 :]]
    return data.draw(ANY)


def changed_table(data: st.DataObject, table: pa.Table) -> pa.Table:
    """With other columns, types or rows."""
    i = data.draw(st.integers(0, table.num_columns - 1))
    name, n_rows = table.column_names[i], len(table)
    match data.draw(st.sampled_from(["drop", "rename", "null", "text", "number", "list", "short", "long", "twice"])):
        case "drop":
            return table.drop_columns([name])
        case "rename":
            return table.rename_columns([f"{n}s" if n == name else n for n in table.column_names])
        case "null":
            return table.set_column(i, name, pa.nulls(n_rows, table.schema.field(i).type))
        case "text":
            return table.set_column(i, name, pa.array(["x"] * n_rows, pa.string()))
        case "number":
            return table.set_column(i, name, pa.array([7] * n_rows, pa.int64()))
        case "list":
            return table.set_column(i, name, pa.array([[np.inf]] * n_rows, pa.list_(pa.float32(), 1)))
        case "short":
            return table.slice(0, data.draw(st.integers(0, max(0, n_rows - 1))))
        case "long":
            return pa.concat_tables([table, table])
    return table.append_column(name, table.column(i))


def changed_arrays(data: st.DataObject, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With other names, types, shapes or values."""
    if not arrays:
        return {"x": np.zeros(1, np.float32)}
    name = data.draw(st.sampled_from(sorted(arrays)))
    array = arrays[name]
    others = {k: v for k, v in arrays.items() if k != name}
    match data.draw(st.sampled_from(["drop", "rename", "short", "flat", "type", "nan", "huge", "empty"])):
        case "drop":
            return others
        case "rename":
            return {**others, f"{name}s": array}
        case "short":
            return {**others, name: np.ascontiguousarray(array[:-1])}
        case "flat":
            return {**others, name: np.ascontiguousarray(array.reshape(1, -1))}
        case "type":
            return {**others, name: array.astype(data.draw(st.sampled_from([np.int8, np.float64, np.bool_])))}
        case "nan":
            return {**others, name: np.full_like(array, np.nan if array.dtype.kind == "f" else -1)}
        case "huge":
            return {**others, name: np.full_like(array, 3e38 if array.dtype.kind == "f" else 1 << 62)}
    return {**others, name: array[:0]}


def damaged(data: st.DataObject, path: Path) -> bytes:
    """The content of a file, damaged."""
    content = path.read_bytes()
    match data.draw(st.sampled_from(["changed", "changed", "changed", "cut", "flipped", "broken"])):
        case "cut":
            return content[: data.draw(st.integers(0, max(0, len(content) - 1)))]
        case "flipped":
            found = bytearray(content)
            for place in data.draw(st.lists(st.integers(0, max(0, len(content) - 1)), min_size=1, max_size=4)):
                found[place] ^= data.draw(st.integers(1, 255))
            return bytes(found)
        case "broken":
            return data.draw(st.sampled_from(BROKEN))
    if path.suffix == ".json":
        return json.dumps(changed_json(data, json.loads(content))).encode()
    if path.suffix == ".parquet":
        buffer = BytesIO()
        pq.write_table(changed_table(data, pq.read_table(BytesIO(content), partitioning=None)), buffer)
        return buffer.getvalue()
    return save(changed_arrays(data, load(content)))


def test_a_whole_store_has_no_errors(whole: Path) -> None:
    assert read_everything(whole) == []
    assert Store.open(whole).target("champion") == RUN


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a number may be any, also one that overflows
@settings(max_examples=1500 if LONG else 20, suppress_health_check=list(HealthCheck), phases=(Phase.generate,))
@given(data=st.data())
def test_every_artifact_may_be_damaged(
    data: st.DataObject, whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = sorted(path for path in whole.rglob("*") if path.suffix in (".json", ".parquet", ".safetensors"))
    name = data.draw(st.sampled_from([path.relative_to(whole) for path in files if not path.is_symlink()]))
    copy = tmp_path_factory.mktemp("damaged") / "out"
    shutil.copytree(whole, copy, symlinks=True)
    try:
        content = damaged(data, whole / name)
        note(f"{name}: {content[:300]!r}")
        (copy / name).write_bytes(content)
        for error in read_everything(copy):
            assert str(error)
            assert len(str(error)) < 3000
    finally:
        shutil.rmtree(copy.parent, ignore_errors=True)


@pytest.mark.parametrize("content", [content for content in BROKEN if content != b"{}"])
def test_the_message_names_the_file(content: bytes, whole: Path, tmp_path: Path) -> None:
    copy = tmp_path / "out"
    shutil.copytree(whole, copy, symlinks=True)
    store = Store(copy)
    readers: dict[str, Callable[[], object]] = {
        "store.json": lambda: Store.open(copy),
        "catalogue.json": lambda: load_catalogue(store),
        "champions.json": lambda: runs.history(store),
        "settings.json": lambda: store.read_json("settings.json"),
    }
    for name in ("metrics", "recipe", "settings", "model", "drift", "comparison"):
        readers[f"{RUN}/{name}.json"] = lambda n=name: getattr(Run(store, RUN), n)  # type: ignore[misc]
    for name, read in readers.items():
        (copy / name).write_bytes(content)
        with pytest.raises(StoreError) as raised:
            read()
        assert str(copy / name) in str(raised.value)
        assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("folder", ["completed/all", "features/textual", "states/completion", "states/acoustic", RUN])
def test_a_recipe_of_another_artifact_is_refused(folder: str, whole: Path, tmp_path: Path) -> None:
    copy = tmp_path / "out"
    shutil.copytree(whole, copy, symlinks=True)
    (file,) = copy.glob(f"{folder}*/recipe.json")
    recipe = json.loads(file.read_bytes())
    file.write_text(json.dumps({**recipe, "state": None, "code_version": "of another"}))
    with pytest.raises(StoreError, match=f"{file} is damaged: it does not match the hash"):
        predict.load_run(str(copy), {})


def test_a_lost_recipe_is_written_again(trained: Path, quick: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(trained, out, symlinks=True)
    lost = [file for kind in TABLES for file in out.glob(f"metadata/{kind}/*/recipe.json")]
    assert {file.parts[-3] for file in lost} >= {"features", "completed", "failures"}
    before = {file: file.read_bytes() for file in lost if file.parts[-3] != "thumbnails"}
    for file in before:
        file.unlink()
    up_to(Context(Store.open(out), quick), "complete")
    assert {file: file.read_bytes() for file in before} == before
