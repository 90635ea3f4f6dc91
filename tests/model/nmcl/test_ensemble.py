"""Several networks in one decision: the mean of what they say, each learning by itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nmcl.model.base import Shape
from nmcl.model.data import Dataset
from nmcl.model.nmcl.ensemble import Committee, mean_of, mean_of_trees
from nmcl.model.nmcl.nmcl import NMCL
from nmcl.model.trained import fit
from tests.model.conftest import VENUES, quick
from tests.model.nmcl.test_nmcl import SHAPE, SMALL, rows

LABEL = torch.tensor([0, 4, 2, 2])


def committee(members: int) -> Committee:
    torch.manual_seed(0)
    return Committee(SHAPE, replace(SMALL, members=members, peers=(), dropout=0.0, input_dropout=0.0))


def test_the_decision_is_the_mean_of_the_members() -> None:
    found = committee(3).eval()
    whole, own = found(*rows()), [member(*rows()) for member in found.networks]
    expected = np.mean([o.log_probability.exp().detach().numpy() for o in own], axis=0)
    np.testing.assert_allclose(whole.log_probability.exp().detach(), expected, atol=1e-6)
    for host in SHAPE.dims:
        expected = np.mean([o.per_modality[host].exp().detach().numpy() for o in own], axis=0)
        np.testing.assert_allclose(whole.per_modality[host].exp().detach(), expected, atol=1e-6)


def test_members_start_apart_and_learn_by_themselves() -> None:
    """A member's gradient is the one it would have alone, over the number of members."""
    found = committee(3)
    found.loss(*rows(), LABEL).backward()  # type: ignore[no-untyped-call]
    for member in found.networks:
        alone = NMCL(SHAPE, found.settings)
        alone.load_state_dict(member.state_dict())
        alone.loss(*rows(), LABEL).backward()  # type: ignore[no-untyped-call]
        for (name, ours), own in zip(member.named_parameters(), alone.parameters(), strict=True):
            assert ours.grad is not None, name
            assert own.grad is not None, name
            torch.testing.assert_close(3 * ours.grad, own.grad, atol=1e-6, rtol=1e-4)
    first, second = (member.heads[0].hidden.weight for member in found.networks[:2])
    assert not torch.equal(first, second)


def test_one_member_without_a_peer_is_the_network() -> None:
    found = committee(1).eval()
    assert torch.equal(found(*rows()).log_probability, found.networks[0](*rows()).log_probability)


def test_diagnostics_are_means_of_the_members() -> None:
    found = committee(2).eval()
    own = [member.diagnose(*rows(64))["b"]["guest"]["open"] for member in found.networks]
    assert found.diagnose(*rows(64))["gates"]["b"]["guest"]["open"] == pytest.approx(np.mean(own))


def test_means_of_trees_and_distributions() -> None:
    assert mean_of_trees([{"a": {"b": 1.0}}, {"a": {"b": 2.0}}]) == {"a": {"b": 1.5}}
    halves = [torch.tensor([[0.2, 0.8]]).log(), torch.tensor([[0.6, 0.4]]).log()]
    torch.testing.assert_close(mean_of(halves).exp(), torch.tensor([[0.4, 0.6]]))


def test_more_members_depend_less_on_the_seed(train: Dataset, validation: Dataset, test: Dataset) -> None:
    """Two seeds of a committee agree more than two seeds of one network."""

    def disagreement(members: int) -> float:
        settings = quick(members=members, peers=())
        first, second = (
            fit("nmcl", train, validation, VENUES, settings, seed).predict(test.modalities).probability
            for seed in (0, 1)
        )
        return float(np.abs(first - second).mean())

    assert disagreement(6) < disagreement(1)


def test_a_single_modality_and_names_of_any_kind() -> None:
    shape = Shape({"": 2}, tuple("ab"))
    found = Committee(shape, replace(SMALL, members=2)).eval()
    assert list(found(*rows(3, shape)).per_modality) == [""]
