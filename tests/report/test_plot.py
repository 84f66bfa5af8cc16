"""A picture of a mixture in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from helpers.data_sets import faithful
from helpers.report_runs import spread_out
from sparkgmm import fit_array
from sparkgmm.errors import InputError
from sparkgmm.mixture import Mixture
from sparkgmm.report.plot import plot


@pytest.fixture(autouse=True)
def headless() -> Iterator[None]:
    with mpl.rc_context({"backend": "agg"}):
        yield
        pyplot.close("all")


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    """Return two components in four features, of which the last and the second tell them apart."""
    means = np.array([[0.0, 0.0, 0.0, 0.0], [0.0, 5.0, 0.0, 9.0]])
    return Mixture(
        [0.5, 0.5], means, np.tile(np.eye(4), (2, 1, 1)), features=["a", "$b$", "c", "d"]
    )


def labels(axes: Axes) -> tuple[str, str]:
    return axes.get_xlabel(), axes.get_ylabel()


def test_the_pair_that_tells_most_is_drawn_by_default(mixture: Mixture) -> None:
    assert set(labels(plot(mixture))) == {"d", "$b$"}
    X, _ = mixture.sample(300, seed=0)
    assert set(labels(plot(mixture, X))) == {"d", "$b$"}


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (["c", "a"], ("c", "a")),
        ([2, 0], ("c", "a")),
        ([-1, "a"], ("d", "a")),
        (np.array([1, 2]), ("$b$", "c")),
        (["$b$"], ("$b$", "density")),
        ("d", ("d", "density")),
        (3, ("d", "density")),
        (np.int64(3), ("d", "density")),
    ],
)
def test_features_are_named_or_numbered(
    mixture: Mixture, features: Any, expected: tuple[str, str]
) -> None:
    axes = plot(mixture, features=features)
    assert labels(axes) == expected
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("features", "part"),
    [
        (["z"], "feature 'z' is not in the mixture"),
        ([4], "feature 4 is not in the mixture"),
        ([-5], "feature -5 is not in the mixture"),
        ([0.5, 1], "feature 0.5 is not in the mixture"),
        ([], "features names 0 features"),
        (["a", "c", "d"], "features names 3 features"),
        (["a", 0], "feature 'a' appears twice"),
    ],
)
def test_a_feature_that_cannot_be_drawn_is_refused(
    mixture: Mixture, features: Any, part: str
) -> None:
    with pytest.raises(InputError, match=part):
        plot(mixture, features=features)


@pytest.mark.parametrize("X", [np.zeros((3, 3)), np.zeros(4), [[1.0, 2.0]]])
def test_rows_of_another_shape_are_refused(mixture: Mixture, X: Any) -> None:
    with pytest.raises(InputError, match=r"give \(n, 4\)"):
        plot(mixture, X)


def test_rows_may_be_lists_or_few_or_none(mixture: Mixture) -> None:
    axes = plot(mixture, [[0.0, 0.0, 0.0, 0.0]])
    assert len(axes.collections[0].get_offsets()) == 1
    assert plot(mixture, np.empty((0, 4))).collections


def test_given_axes_are_drawn_on_and_returned(mixture: Mixture) -> None:
    own = Figure().subplots()
    assert plot(mixture, features=["a", "d"], ax=own) is own
    assert pyplot.get_fignums() == []
    assert any(isinstance(c, ContourSet) for c in own.collections)


def test_old_faithful_is_drawn_with_its_rows() -> None:
    mixture = Mixture(
        [0.644127, 0.355873],
        [[4.289662, 79.968115], [2.036388, 54.478516]],
        [
            [[0.169968, 0.940609], [0.940609, 36.046210]],
            [[0.069168, 0.435168], [0.435168, 33.697282]],
        ],
    )
    axes = plot(mixture, faithful())
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), faithful())
    assert labels(axes) == ("x0", "x1")


def test_many_rows_are_thinned_evenly(mixture: Mixture) -> None:
    X = np.repeat(np.linspace(0, 1, 200_000)[:, None], 4, axis=1)
    axes = plot(mixture, X, features="a")
    [bars] = [p for p in axes.patches if isinstance(p, StepPatch)]
    heights, edges, _ = bars.get_data()
    assert np.sum(heights * np.diff(edges)) == pytest.approx(1)
    inside = heights[(edges[:-1] > 0) & (edges[1:] < 1)]
    np.testing.assert_allclose(inside, inside.mean(), rtol=0.01)


def test_rows_with_gaps_do_not_stop_a_picture_of_the_others() -> None:
    X = faithful()
    table = pd.DataFrame(X.copy(), columns=["eruptions", "waiting"])
    table.loc[:9, "waiting"] = np.nan
    mixture = fit_array(table, 2, n_init=1, missing="model").mixture
    for given in (table, table.to_numpy()):
        axes = plot(mixture, given)
        [points] = [c for c in axes.collections if len(c.get_offsets()) == len(X) - 10]
        assert np.isfinite(points.get_offsets()).all()
    with pytest.raises(InputError, match="column 'waiting' holds NA in row 0"):
        plot(mixture.with_missing("invalid"), table)


def test_a_mixture_of_one_feature_is_a_density() -> None:
    axes = plot(spread_out(1, 3))
    assert labels(axes) == ("x0", "density")
    assert len(axes.lines) == 4
