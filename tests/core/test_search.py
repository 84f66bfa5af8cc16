from itertools import pairwise

import numpy as np
import pytest

from helpers.builders import rows_of
from helpers.data_sets import TEXTBOOK, clusters, faithful, iris, random_mixture
from helpers.searches import starts_for
from sparkgmm import fit_array
from sparkgmm.core.em import Settings
from sparkgmm.core.fit import fit, n_distinct
from sparkgmm.core.prior import Regularised
from sparkgmm.core.profile import Block
from sparkgmm.core.rows import LocalRows
from sparkgmm.core.search import Search
from sparkgmm.errors import FitError, InputError
from sparkgmm.mixture import COVARIANCE_TYPES, Mixture

EXACT = Settings(prior=Regularised(0.0))


class Counting(LocalRows):
    """Rows that count the passes over them and remember what they were told about each."""

    def __init__(self, *args):
        super().__init__(*args)
        self.labels = []

    def scan(self, kernels, label):
        self.labels.append(label)
        return super().scan(kernels, label)


def test_bic_chooses_two_components_of_old_faithful_among_all_types():
    search = Search(k=(1, 2, 3, 4), covariance_type=TEXTBOOK, n_init=4, settings=EXACT)
    found = fit(rows_of(faithful()), search)
    assert len(found.candidates) == 16
    # mclust's choice is EEE with three components
    assert (found.chosen.k, found.chosen.covariance_type) == (3, "tied")
    assert found.chosen.bic == pytest.approx(2314.2957, abs=1e-3)
    sound = [c for c in found.candidates if c.degenerate is None]
    assert found.chosen.bic == min(c.bic for c in sound)


@pytest.mark.parametrize("criterion", ["bic", "icl"])
def test_the_true_number_of_separated_clusters_is_chosen(criterion):
    X, _ = clusters(np.random.default_rng(0), 3, 2, 900, 12.0)
    init = "auto" if criterion == "bic" else "k-means++"
    search = Search(k=(1, 2, 3, 4, 5), criterion=criterion, init=init, n_init=3)
    assert fit(rows_of(X), search).chosen.k == 3


def test_candidates_that_share_their_passes_are_each_as_good_as_alone():
    search = Search(k=(1, 2), covariance_type=COVARIANCE_TYPES, n_init=4, settings=EXACT)
    found = fit(rows_of(faithful()), search)
    for candidate in found.candidates:
        alone = fit_array(
            faithful(),
            candidate.k,
            covariance_type=candidate.covariance_type,
            reg_covar=0,
            init=starts_for(candidate.covariance_type),
        )
        assert candidate.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-4)


def test_all_candidates_share_every_pass():
    rows = rows_of(faithful(), kind=Counting)
    fit(rows, Search(k=(2,), init="k-means++", n_init=4))
    alone = len(rows.labels)
    rows = rows_of(faithful(), kind=Counting)
    search = Search(k=(1, 2), covariance_type=("full", "diag"), init="k-means++", n_init=4)
    fit(rows, search)
    assert rows.labels[0] == "EM pass 1, 16 candidates"
    assert len(rows.labels) < 4 * alone


def test_progress_is_told_after_every_pass_and_never_falls_within_a_race():
    told = []
    search = Search(k=(3,), covariance_type=("tied",), init="k-means++", settings=EXACT)
    found = fit(rows_of(faithful()), search, progress=lambda *values: told.append(values))
    starts = [at for at, (number, *_) in enumerate(told) if number == 1]
    for begin, end in pairwise([*starts, len(told)]):
        race = told[begin:end]
        assert [number for number, *_ in race] == list(range(1, len(race) + 1))
        assert np.diff([height for _, _, height, _ in race]).min(initial=0.0) >= -1e-9
    assert told[0][1] == 10
    assert told[-1][2] == pytest.approx(found.chosen.mean_log_likelihood, abs=1e-9)


def test_features_give_the_mixture_and_the_messages_their_names():
    found = fit(rows_of(faithful()), Search(), features=("eruptions", "waiting"))
    assert found.chosen.mixture.features == ("eruptions", "waiting")
    X = faithful().copy()
    X[:, 1] = 3.0
    with pytest.raises(InputError, match=r"feature 'waiting' is constant \(3 in all 272 rows\)"):
        fit(rows_of(X), Search(), features=("eruptions", "waiting"))


def test_a_search_checks_the_largest_k_against_the_distinct_rows():
    X = np.repeat(faithful()[:3], 9, axis=0)
    with pytest.raises(InputError, match="3 distinct rows for k = 4 components"):
        fit(rows_of(X), Search(k=(1, 2, 4)))


def test_given_starts_take_the_place_of_drawn_ones():
    start = fit_array(faithful(), 2, max_iter=2, n_init=1).mixture
    rows = rows_of(faithful(), kind=Counting)
    found = fit(rows, Search(), starts=[start])
    assert rows.labels[0] == "EM pass 1, 1 candidate"
    assert found.chosen.log_likelihood == pytest.approx(-1130.26396, abs=1e-3)


def _nights(spread: float, n: int = 50_000) -> tuple[Mixture, list[np.ndarray]]:
    truth = random_mixture(np.random.default_rng(0), 4, 3, "full", spread=spread)
    return truth, [truth.sample(n, seed=night)[0] for night in (1, 2)]


def test_an_earlier_model_of_the_same_truth_starts_nearer_the_limit():
    _, (yesterday, today) = _nights(spread=1.5, n=200_000)
    search = Search(k=(4,), init="k-means++")
    earlier = fit(rows_of(yesterday), search).chosen.mixture
    cold = fit(rows_of(today), search).chosen
    warm = fit(rows_of(today), search, earlier=earlier).chosen
    assert warm.log_likelihoods[0] > cold.log_likelihoods[0]
    assert warm.n_iter <= cold.n_iter
    assert warm.mean_log_likelihood == pytest.approx(cold.mean_log_likelihood, abs=1e-5)


@pytest.mark.parametrize("n", [1_000, 50_000], ids=["its own sample", "sampled"])
def test_an_earlier_model_of_another_world_does_not_trap_the_fit(n):
    truth, (_, today) = _nights(spread=6.0)
    # two of its components share one cluster, one component covers two: EM cannot leave that
    means = truth.means[[0, 0, 1, 2]] + [[0.1, 0, 0], [-0.1, 0, 0], [0, 0, 0], [0, 0, 0]]
    stale = Mixture(truth.weights, means, truth.covariances)
    alone = fit(rows_of(today[:n]), Search(k=(4,), n_init=1), starts=[stale]).chosen
    search = Search(k=(4,), init="auto" if n == 1_000 else "k-means++")
    found = fit(rows_of(today[:n]), search, earlier=stale).chosen
    cold = fit(rows_of(today[:n]), search).chosen
    assert alone.mean_log_likelihood < cold.mean_log_likelihood - 0.01
    assert found.mean_log_likelihood == pytest.approx(cold.mean_log_likelihood, abs=1e-5)


def test_an_earlier_model_serves_its_own_kind_among_several():
    X = iris()
    earlier = fit(rows_of(X), Search(k=(2,))).chosen.mixture
    search = Search(k=(1, 2, 3), covariance_type=("full", "tied"), init="k-means++")
    cold, warm = fit(rows_of(X), search), fit(rows_of(X), search, earlier=earlier)
    kinds = [(c.k, c.covariance_type) for c in cold.candidates]
    assert [(c.k, c.covariance_type) for c in warm.candidates] == kinds
    for before, after in zip(cold.candidates, warm.candidates, strict=True):
        assert after.log_likelihood >= before.log_likelihood - 1e-3
    saved = kinds.index((2, "full"))
    assert warm.candidates[saved].n_iter < cold.candidates[saved].n_iter


def test_large_data_is_searched_on_a_sample_and_passed_over_a_few_times():
    truth = random_mixture(np.random.default_rng(0), 4, 2, "full", spread=8.0)
    X, _ = truth.sample(50_000, seed=0)
    rows = rows_of(X, blocks=4, kind=Counting)
    found = fit(rows, Search(k=(4,)))
    assert set(rows.labels) >= {"EM pass 1, 1 candidate"}
    assert len(rows.labels) == found.chosen.n_iter <= 12
    assert found.chosen.converged
    assert found.chosen.log_likelihood >= truth.log_likelihood(X) - 5


@pytest.mark.parametrize("blocks", [1, 3, 7])
def test_how_rows_are_cut_in_blocks_does_not_matter(blocks):
    search = Search(k=(3,), init="auto" if blocks == 3 else "k-means++", settings=EXACT)
    expected = fit(rows_of(iris()), search).chosen
    found = fit(rows_of(iris(), blocks=blocks), search).chosen
    assert found.log_likelihood == pytest.approx(expected.log_likelihood, abs=1e-4)
    np.testing.assert_allclose(found.mixture.means, expected.mixture.means, rtol=1e-4)


@pytest.mark.parametrize("blocks", [1, 4])
def test_a_search_gives_the_same_bits_each_time(blocks):
    init = "auto" if blocks == 4 else "k-means++"
    search = Search(k=(2, 3), covariance_type=("full", "tied"), init=init, n_init=3, seed=5)
    first, second = (fit(rows_of(iris(), blocks=blocks), search) for _ in range(2))
    for ours, theirs in zip(first.candidates, second.candidates, strict=True):
        assert ours.mixture == theirs.mixture
        assert ours.log_likelihoods == theirs.log_likelihoods


def test_distinct_rows_are_counted_across_blocks_and_no_further_than_needed():
    a = Block(np.array([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0]]), None)
    b = Block(np.array([[2.0, 3.0], [-0.0, 0.0]]), None)
    assert n_distinct([a, b], enough=10) == 3
    assert n_distinct([a, b], enough=2) == 2
    assert n_distinct([], enough=2) == 0


def test_if_every_candidate_is_degenerate_the_error_tells_why_for_each():
    X = np.repeat(faithful()[:4], 4, axis=0)  # few rows each: no atoms
    both = Search(k=(4,), covariance_type=("full", "diag"))
    with pytest.raises(FitError, match=r"k=4 full: .*; k=4 diag: .*\): lower k") as caught:
        fit(rows_of(X), both)
    assert caught.value.exit_code == 4


def test_a_spike_does_not_win_by_its_likelihood_but_is_left_out():
    X = np.r_[np.zeros((8, 2)), np.random.default_rng(0).standard_normal((200, 2)) + 4]
    found = fit(rows_of(X), Search(k=(1, 2), init="k-means++"))
    one, two = found.candidates
    assert (two.mixture.k, two.n_dropped, two.degenerate) == (1, 1, None)
    assert two.log_likelihood == one.log_likelihood
    assert found.chosen.mixture.k == 1


def test_over_more_rows_than_the_sample_a_fit_goes_on_to_a_quarter_of_tol():
    X, _ = random_mixture(np.random.default_rng(1), 3, 2, "full").sample(40_000, seed=1)
    for tol in (1e-3, 1e-4, 1e-5, 1e-6):
        init = "auto" if tol == 1e-6 else "k-means++"
        search = Search(k=(3,), init=init, n_init=2, settings=Settings(tol))
        chosen = fit(rows_of(X, blocks=4), search).chosen
        assert chosen.converged
        assert chosen.distance <= tol / 4


def test_a_fit_that_max_iter_ends_within_tol_has_converged():
    truth = random_mixture(np.random.default_rng(1), 3, 2, "full")
    X, _ = truth.sample(40_000, seed=1)

    def ended(tol, passes):
        search = Search(k=(3,), settings=Settings(tol, passes))
        return fit(rows_of(X, blocks=4), search, starts=[truth]).chosen

    for passes in (1, 2):
        left = ended(1e-9, passes).distance
        assert ended(2 * left, passes).converged  # above the quarter at which it would stop itself
        assert not ended(left / 2, passes).converged
