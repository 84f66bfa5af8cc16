from dataclasses import replace

import numpy as np
import pytest

from helpers.builders import rows_of
from helpers.data_sets import faithful
from sparkgmm.core.em import Settings
from sparkgmm.core.fit import fit
from sparkgmm.core.search import Search
from sparkgmm.core.selection import choose, none_sound
from sparkgmm.errors import FitError
from sparkgmm.mixture import COVARIANCE_TYPES
from sparkgmm.options import CRITERION

WEIGHTS = np.random.default_rng(0).uniform(0.5, 2.5, 272)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "weighted"])
def case(request):
    """The candidates of a small search, with the weights that they were fitted to."""
    w = WEIGHTS if request.param else None
    init = "auto" if w is None else "k-means++"
    search = Search(
        k=(1, 2), covariance_type=COVARIANCE_TYPES, init=init, n_init=2, settings=Settings()
    )
    return fit(rows_of(faithful(), w), search).candidates, w


def test_a_candidates_worth_is_that_of_its_mixture(case):
    candidates, w = case
    assert len(candidates) == 2 * len(COVARIANCE_TYPES)
    for c in candidates:
        X, mixture = faithful(), c.mixture
        assert c.n_parameters == mixture.n_parameters
        assert c.weight == pytest.approx(272 if w is None else w.sum())
        assert c.log_likelihood == pytest.approx(mixture.log_likelihood(X, w), rel=1e-11)
        assert c.mean_log_likelihood == pytest.approx(c.log_likelihood / c.weight)
        assert c.aic == pytest.approx(mixture.aic(X, w), rel=1e-11)
        assert c.bic == pytest.approx(mixture.bic(X, w), rel=1e-11)
        assert c.icl == pytest.approx(mixture.icl(X, w), rel=1e-8)
        assert c.entropy == pytest.approx((c.icl - c.bic) / 2, abs=1e-8)
        assert c.n_iter == len(c.log_likelihoods)
        assert c.degenerate is None
        assert isinstance(c.converged, bool)


@pytest.mark.parametrize("criterion", CRITERION.kind.choices)
def test_the_lowest_criterion_wins(case, criterion):
    candidates, _ = case
    values = [getattr(c, criterion) for c in candidates]
    assert choose(candidates, criterion) is candidates[int(np.argmin(values))]


def test_a_candidate_that_lost_components_gives_way_to_its_like_that_lost_none(case):
    """Or a warning says to lower k where the k chosen was asked for as well."""
    candidates, _ = case
    [one] = [c for c in candidates if (c.k, c.covariance_type) == (1, "full")]
    same = replace(one, log_likelihood=one.log_likelihood + 1e-9, n_dropped=1)
    assert choose([one, same], "bic") is one
    better = replace(one, log_likelihood=one.log_likelihood + 1, n_dropped=1)
    assert choose([one, better], "bic") is better


def test_the_smaller_model_wins_a_tie(case):
    candidates, _ = case
    first, second = candidates[0], candidates[-1]
    # nothing to tell them apart but how many parameters they spend
    large = replace(first, n_parameters=9, log_likelihood=-100.0 + 9)
    small = replace(second, n_parameters=5, log_likelihood=-100.0 + 5)
    assert large.aic == small.aic
    assert choose([large, small], "aic") is small
    assert choose([small, large], "aic") is small


def test_a_degenerate_candidate_never_wins(case):
    candidates, _ = case
    best = choose(candidates, "bic")
    spoilt = [replace(c, degenerate="a spike") if c is best else c for c in candidates]
    assert choose(spoilt, "bic") is not best
    assert choose(spoilt, "bic").degenerate is None


def test_nothing_but_degenerate_candidates_is_an_error_that_names_them(case):
    candidates, _ = case
    spoilt = [replace(c, degenerate="a spike") for c in candidates[:2]]
    with pytest.raises(FitError, match=r"\(k=1 full: a spike; k=1 tied: a spike\): "):
        choose(spoilt, "bic")


def test_a_remedy_that_was_tried_already_is_not_given_again(case):
    candidates, _ = case

    def remedies(*, k, covariance_type, regularised):
        spoilt = replace(
            candidates[0],
            k=k,
            covariance_type=covariance_type,
            regularised=regularised,
            degenerate="a spike",
        )
        return str(none_sound([spoilt])).partition("): ")[2]

    assert remedies(k=3, covariance_type="full", regularised=0.0) == (
        "lower k, try covariance_type tied or diag, or look for outliers and repeats among "
        "these rows"
    )
    assert remedies(k=1, covariance_type="spherical", regularised=1e-3) == (
        "look for outliers and repeats among these rows"
    )


def test_the_k_that_was_asked_for_is_named_not_the_one_that_was_left(case):
    candidates, _ = case
    left = replace(candidates[0], k=2, n_dropped=2, degenerate="a spike")
    assert "(k=4 " in str(none_sound([left]))
