"""The classifier keeps scikit-learn's conventions, and uses several modalities with gaps."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import nmcl
from nmcl.model.data import Dataset
from nmcl.model.registry import MODELS
from nmcl.model.trained import fit
from nmcl.pipeline import completion
from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.storage.tables import from_vectors

QUICK = {"train.max_epochs": 3}
ROUNDING = {
    "check_methods_subset_invariance": "probabilities are float32: another batch size changes the seventh digit",
    "check_methods_sample_order_invariance": "so does another order of the rows",
}


def world(seed: int = 0, n: int = 240, gaps: float = 0.25) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Three classes; the modalities follow four common factors, and a quarter of the vectors is absent."""
    random = np.random.default_rng(seed)
    maps = {name: np.random.default_rng(9).standard_normal((4, dim)) for name, dim in (("sight", 12), ("sound", 7))}
    label = random.integers(0, 3, n)
    factors = random.standard_normal((n, 4)) + 1.5 * np.eye(3, 4)[label]
    x = {name: factors @ m + 0.5 * random.standard_normal((n, m.shape[1])) for name, m in maps.items()}
    for block in x.values():
        block[random.random(n) < gaps] = np.nan
    return x, np.array(["beach", "slope", "street"])[label]


def taken(x: dict[str, np.ndarray], rows: Any) -> dict[str, np.ndarray]:
    return {name: block[rows] for name, block in x.items()}


@pytest.fixture(scope="module")
def fitted() -> nmcl.NMCLClassifier:
    return nmcl.NMCLClassifier("logistic").fit(*world())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_has_no_objection() -> None:
    results = check_estimator(nmcl.NMCLClassifier("logistic"), on_fail=None)
    assert len(results) > 40
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= {"check_array_api_input"}


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_has_no_objection_to_the_default() -> None:
    results = check_estimator(nmcl.NMCLClassifier(), on_fail=None, expected_failed_checks=ROUNDING)
    assert {r["check_name"] for r in results if r["status"] == "failed"} == set()


# DARE reads a file of sounds, and models of terms need some.
@pytest.mark.parametrize("model", sorted(m for m in MODELS if m != "dare" and not MODELS[m].needs_terms))
def test_every_model_is_fitted_by_name(model: str) -> None:
    x, y = world(n=90)
    quick = QUICK if hasattr(MODELS[model].settings, "train") else None
    found = nmcl.NMCLClassifier(model, settings=quick, completion="mean").fit(x, y)
    probability = found.predict_proba(x)
    assert probability.shape == (90, 3)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert set(found.predict(x)) <= set(found.classes_) == set(y)


def test_it_learns_from_all_modalities() -> None:
    """On fresh rows better than logistic regression on either modality alone with the same gaps filled by the mean."""
    (x, y), (new, truth) = world(0, 400, 0.4), world(1, 400, 0.4)
    ours = nmcl.NMCLClassifier("logistic").fit(x, y).score(new, truth)
    alone = []
    for name in x:
        mean = np.nanmean(x[name], axis=0)
        old, fresh = (np.where(np.isnan(block), mean, block) for block in (x[name], new[name]))
        plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(old, y)
        alone.append(plain.score(fresh, truth))
    assert ours > max(alone) + 0.04


def test_gaps_are_completed_by_the_completer_of_the_training_rows() -> None:
    """The same steps by hand, with `validation` given, so that nothing is drawn."""
    x, y = world()
    held_out = np.arange(len(y)) % 3 == 0
    found = nmcl.NMCLClassifier("logistic", completion="ridge").fit(x, y, validation=held_out)
    blocks = {name: block.astype(np.float32) for name, block in x.items()}
    usable = ~np.all([np.isnan(block).any(axis=1) for block in blocks.values()], axis=0)
    assert not usable.all()
    rows = {"train": usable & ~held_out, "validation": usable & held_out}
    settings = completion.CompletionSettings(method="ridge")
    state = completion.fit(taken(blocks, rows["train"]), settings)
    label = np.unique(y, return_inverse=True)[1]
    sets = []
    for mask in rows.values():
        of_split = taken(blocks, mask)
        observed = {name: ~np.isnan(block).any(axis=1) for name, block in of_split.items()}
        sets.append(Dataset(completion.complete(of_split, state), observed, label[mask]))
    model = fit("logistic", *sets, tuple(np.unique(y)), seed=0)
    new = {name: block.astype(np.float32) for name, block in world(1)[0].items()}
    known = ~np.all([np.isnan(block).any(axis=1) for block in new.values()], axis=0)
    some = taken(new, known)
    observed = {name: ~np.isnan(block).any(axis=1) for name, block in some.items()}
    expected = model.predict(completion.complete(some, state), observed).probability
    np.testing.assert_allclose(found.predict_proba(new)[known], expected, atol=1e-6)


def test_a_row_without_any_modality_gets_the_class_shares(fitted: nmcl.NMCLClassifier) -> None:
    x, y = world()
    usable = ~np.all([np.isnan(block).any(axis=1) for block in x.values()], axis=0)
    empty = {name: np.full((2, dim), np.nan) for name, dim in fitted.dims_.items()}
    shares = [(y[usable] == name).mean() for name in fitted.classes_]
    np.testing.assert_allclose(fitted.predict_proba(empty), [shares, shares])


def test_a_modality_that_is_left_out_is_absent(fitted: nmcl.NMCLClassifier) -> None:
    x, _ = world(1)
    bare = {"sight": x["sight"], "sound": np.full_like(x["sound"], np.nan)}
    np.testing.assert_array_equal(fitted.predict_proba({"sight": x["sight"]}), fitted.predict_proba(bare))


def test_tables_with_columns_of_vectors_are_the_same(fitted: nmcl.NMCLClassifier) -> None:
    x, y = world()
    columns = {name: from_vectors(block.astype(np.float32)) for name, block in x.items()}
    table = pa.table({"video_id": [str(i) for i in range(len(y))], **columns, "sight_observed": [True] * len(y)})
    expected = fitted.predict_proba(x)
    assert isinstance(table.to_pandas(), pd.DataFrame)
    for form in (table, table.to_pandas()):
        np.testing.assert_array_equal(fitted.predict_proba(form), expected)
        np.testing.assert_array_equal(clone(fitted).fit(form, y).predict_proba(x), expected)


def test_a_frame_of_numbers_is_one_modality() -> None:
    x, y = world(gaps=0)
    frame = pd.DataFrame(x["sight"], columns=[f"c{i}" for i in range(12)])
    found = nmcl.NMCLClassifier("logistic").fit(frame, y)
    assert found.feature_names_in_.tolist() == [*frame.columns]
    plain = nmcl.NMCLClassifier("logistic").fit(x["sight"], y)
    assert (plain.n_features_in_, plain.dims_) == (12, {"features": 12})
    np.testing.assert_array_equal(found.predict_proba(frame), plain.predict_proba(x["sight"]))


def test_model_selection_works_on_a_data_frame() -> None:
    x, y = world()
    frame = pa.table({name: from_vectors(block.astype(np.float32)) for name, block in x.items()}).to_pandas()
    scores = cross_val_score(nmcl.NMCLClassifier("logistic", completion="mean"), frame, y, cv=3)
    assert scores.min() > 0.6
    grid = {"completion": ["mean", "ridge"], "model": ["logistic", "majority"]}
    search = GridSearchCV(nmcl.NMCLClassifier(), grid, cv=2).fit(frame, y)
    assert search.best_params_["model"] == "logistic"


def test_the_same_seed_gives_the_same_model_and_leaves_global_generators_alone() -> None:
    x, y = world(n=90)

    def fresh(seed: Any) -> np.ndarray:
        return nmcl.NMCLClassifier("mlp", settings=QUICK, random_state=seed).fit(x, y).predict_proba(x)

    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    first = fresh(0)
    np.testing.assert_array_equal(first, fresh(0))
    assert not np.array_equal(first, fresh(1))
    np.testing.assert_array_equal(fresh(np.random.RandomState(3)), fresh(np.random.RandomState(3)))
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_it_can_be_cloned_and_pickled(fitted: nmcl.NMCLClassifier) -> None:
    x, _ = world(1)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(x), fitted.predict_proba(x))
    with pytest.raises(NotFittedError):
        clone(fitted).predict(x)
    assert nmcl.NMCLClassifier(settings={"hidden": 8}).get_params()["settings"] == {"hidden": 8}


def test_classes_keep_their_type() -> None:
    x, y = world(n=90)
    numbers = np.unique(y, return_inverse=True)[1] * 10
    found = nmcl.NMCLClassifier("logistic").fit(x, numbers)
    assert found.classes_.tolist() == [0, 10, 20]
    assert found.predict(x).dtype == numbers.dtype


def test_settings_reach_the_model() -> None:
    x, y = world(n=90)
    found = nmcl.NMCLClassifier("mlp", settings={"train.max_epochs": 2, "hidden": 8}).fit(x, y)
    assert (found.trained_.settings.hidden, len(found.trained_.history)) == (8, 2)


def test_the_completer_is_chosen_on_training_rows() -> None:
    found = nmcl.NMCLClassifier("logistic").fit(*world())
    errors = {name: s["overall"] for name, s in found.completer_.info["held_out"]["nrmse"].items()}
    assert found.completer_.info["method"] == min(errors, key=lambda name: errors[name])
    assert errors["mean"] > 0.9 > min(errors.values())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings": {"train.max_epoch": 1}}, "a name that mlp does not know; its settings are"),
        ({"settings": {"train.max_epochs": 0}}, "The setting train.max_epochs is 0: Input should be greater than"),
        ({"completion": "median"}, "completion='median': expected one of auto, als, implicit, mean, ridge"),
        ({"validation_fraction": 1.5}, "validation_fraction=1.5: expected a number between 0 and 1"),
    ],
)
def test_parameters_are_checked_in_fit(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        nmcl.NMCLClassifier("mlp").set_params(**changes).fit(*world(n=60))


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(ModelError, match=r"There is no model 'nmlc'\. Did you mean nmcl\?"):
        nmcl.NMCLClassifier("nmlc").fit(*world(n=60))


@pytest.mark.parametrize(
    ("x", "said"),
    [
        ({}, "empty mapping"),
        ({"a": np.zeros(6)}, r"'a' has shape \(6,\)"),
        ({"a": np.zeros((6, 2)), "b": np.zeros((5, 2))}, "different numbers of rows"),
        ({"a": np.array([[1.0, np.nan]] * 6)}, "Row 0 of 'a' has 1 NaN in 2 columns"),
        ({"a": np.full((6, 2), np.inf)}, "infinite"),
        ({"a": np.full((6, 2), 1e300)}, "infinite"),
        ({"a": np.array([["x"]] * 6)}, "expected numbers"),
        ({"a": np.zeros((5, 2))}, "Found 5 rows and 6 labels"),
    ],
)
def test_rows_that_cannot_be_used_are_described(x: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        nmcl.NMCLClassifier("logistic").fit(x, ["a", "b"] * 3)


def test_labels_that_cannot_be_learned_are_described() -> None:
    x = {"a": np.arange(12.0).reshape(6, 2)}
    with pytest.raises(ValueError, match="Found one class"):
        nmcl.NMCLClassifier("logistic").fit(x, ["a"] * 6)
    with pytest.raises(ValueError, match="expected some of each"):
        nmcl.NMCLClassifier("logistic").fit(x, list("abcdef"))
    with pytest.raises(ValueError, match="expected some of each"):
        nmcl.NMCLClassifier("logistic").fit(x, ["a", "b"] * 3, validation=np.zeros(6, bool))
    with pytest.raises(ValueError, match="validation mask of shape"):
        nmcl.NMCLClassifier("logistic").fit(x, ["a", "b"] * 3, validation=np.zeros(5, bool))


def test_other_modalities_than_those_of_the_fit_are_refused(fitted: nmcl.NMCLClassifier) -> None:
    x, _ = world(1)
    with pytest.raises(ValueError, match=r"Found the modalities \{'smell': 12\}"):
        fitted.predict({"smell": x["sight"]})
    with pytest.raises(ValueError, match="expected some of"):
        fitted.predict({"sight": x["sight"][:, 1:]})
    with pytest.raises(ValueError, match="Found one array; expected the modalities sight, sound"):
        fitted.predict(x["sight"])
