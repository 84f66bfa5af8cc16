"""One pair of features, or one: what lies on the axes is where the mixture says."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, StepPatch
from scipy.stats import norm

from helpers.data_sets import faithful, random_mixture
from sparkgmm.mixture import Array, Mixture
from sparkgmm.report.drawing import bounds_of, draw_pair, draw_single, mixed_colours
from sparkgmm.report.style import COLOURS, INK, colour, dash, marker, style
from sparkgmm.report.views import SHARES, density_levels, spans_powers


@pytest.fixture
def axes() -> Axes:
    return Figure(figsize=(7, 5), layout="constrained").subplots()


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    """Return three overlapping components in unlike units."""
    return random_mixture(np.random.default_rng(4), 3, 2, "full")


def contours_of(axes: Axes) -> ContourSet:
    [found] = [c for c in axes.collections if isinstance(c, ContourSet)]
    return found


def points_of(axes: Axes) -> list[PathCollection]:
    return [c for c in axes.collections if isinstance(c, PathCollection)]


def draw_it(axes: Axes) -> None:
    """Have matplotlib do all that it puts off until a figure is drawn."""
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]


# --- a pair


@pytest.mark.parametrize(("small", "tolerance"), [(False, 0.03), (True, 0.1)])
def test_the_drawn_contours_lie_at_the_density_of_their_level(
    axes: Axes, mixture: Mixture, small: bool, tolerance: float
) -> None:
    draw_pair(axes, mixture, None, small=small)
    draw_it(axes)
    found = contours_of(axes)
    np.testing.assert_allclose(found.levels, np.sort(density_levels(mixture)))
    for level, path in zip(found.levels, found.get_paths(), strict=True):
        assert len(path.vertices) > 20
        density = np.exp(mixture.log_density(path.vertices))
        np.testing.assert_allclose(density, level, rtol=tolerance)


def test_the_contours_are_labelled_with_the_share_that_they_hold(
    axes: Axes, mixture: Mixture
) -> None:
    draw_pair(axes, mixture, None)
    shares = {text.get_text() for text in contours_of(axes).labelTexts}
    assert shares == {"50%", "80%", "95%", "99%"}
    fresh = np.exp(mixture.log_density(mixture.sample(50_000, seed=9)[0]))
    levels = dict(zip(SHARES, density_levels(mixture), strict=True))
    for text in contours_of(axes).labelTexts:
        share = float(text.get_text().rstrip("%")) / 100
        at = np.exp(mixture.log_density([text.get_position()]))[0]
        assert at == pytest.approx(levels[share], rel=0.1)
        assert (fresh > at).mean() == pytest.approx(share, abs=0.06)


def ellipses_of(axes: Axes) -> list[Polygon]:
    return [p for p in axes.patches if isinstance(p, Polygon)]


@pytest.mark.parametrize("unit", [(1.0, 1.0), (3.6e12, 1e-9), (1e-12, 1e12)])
def test_the_ellipses_are_one_and_two_standard_deviations_of_their_component(
    axes: Axes, mixture: Mixture, unit: tuple[float, float]
) -> None:
    scaled = Mixture(
        mixture.weights,
        mixture.means * unit,
        np.asarray(mixture.covariances) * np.outer(unit, unit),
    )
    draw_pair(axes, scaled, None)
    ellipses = ellipses_of(axes)
    assert len(ellipses) == 2 * mixture.k
    for i, ellipse in enumerate(ellipses):
        j, sigmas = i // 2, 1 + i % 2
        assert to_rgb(ellipse.get_edgecolor()) == to_rgb(colour(j))
        assert ellipse.get_linestyle() == ("-" if sigmas == 1 else "--")
        assert not ellipse.get_fill()
        residuals = ellipse.get_xy() / unit - mixture.means[j]
        precision = np.linalg.inv(mixture.covariances[j])
        distance = np.sqrt(np.einsum("ni,ij,nj->n", residuals, precision, residuals))
        np.testing.assert_allclose(distance, sigmas, rtol=1e-6)
        # all the way round, in steps that look smooth
        angles = np.unwrap(np.arctan2(*(residuals @ np.linalg.cholesky(precision)).T))
        assert abs(angles[-1] - angles[0]) == pytest.approx(2 * np.pi)
        assert np.abs(np.diff(angles)).max() < 0.1


def test_the_means_are_marked_and_numbered(axes: Axes, mixture: Mixture) -> None:
    draw_pair(axes, mixture, None)
    [crosses] = axes.lines
    np.testing.assert_array_equal(crosses.get_xydata(), mixture.means)
    assert (crosses.get_marker(), crosses.get_linestyle()) == ("+", "None")
    numbers = {text.get_text(): text.xy for text in axes.texts if text.get_text().isdigit()}
    assert sorted(numbers) == ["0", "1", "2"]
    np.testing.assert_array_equal([numbers[str(j)] for j in range(3)], mixture.means)


def test_up_to_2000_rows_are_points_in_their_mixed_colours(axes: Axes, mixture: Mixture) -> None:
    X, _ = mixture.sample(2000, seed=1)
    draw_pair(axes, mixture, X)
    [points] = points_of(axes)
    np.testing.assert_array_equal(points.get_offsets(), X)
    R = mixture.responsibilities(X)
    palette = np.array([to_rgb(c) for c in COLOURS[:3]])
    np.testing.assert_allclose(points.get_facecolors()[:, :3], R @ palette, atol=1e-12)
    assert not axes.images


@pytest.mark.parametrize("n", [2001, 30_000])
def test_more_rows_are_cells_whose_counts_are_those_of_the_rows_inside(
    axes: Axes, mixture: Mixture, n: int
) -> None:
    X, _ = mixture.sample(n, seed=2)
    X[:7] += 1e6  # far outside
    draw_pair(axes, mixture, X)
    assert not points_of(axes)
    [image] = axes.images
    x_low, x_high, y_low, y_high = image.get_extent()
    np.testing.assert_allclose((x_low, x_high), axes.get_xlim())
    np.testing.assert_allclose((y_low, y_high), axes.get_ylim())
    opacity = np.asarray(image.get_array())[..., 3]
    # opacity is 0.12 + 0.83 log(1 + count) / log(1 + largest); somewhere one row is alone
    depth = (opacity[opacity > 0] - 0.12) / 0.83
    counts = np.expm1(depth * np.log(2) / depth.min())
    np.testing.assert_allclose(counts, counts.round(), atol=1e-6)
    low, high = (x_low, y_low), (x_high, y_high)
    inside = ((low <= X) & (high >= X)).all(axis=1)
    assert counts.round().sum() == inside.sum()
    assert n - 7 >= inside.sum() > 0.98 * n


def test_a_cell_lies_where_its_rows_lie_in_the_colour_of_their_component(axes: Axes) -> None:
    mixture = Mixture([0.5, 0.5], [[0.0, 0.0], [10.0, 30.0]], np.tile(np.eye(2), (2, 1, 1)))
    X, _ = mixture.sample(9000, seed=3)
    draw_pair(axes, mixture, X)
    [image] = axes.images
    cells = np.asarray(image.get_array())
    assert image.origin == "lower"
    x_low, x_high, y_low, y_high = image.get_extent()
    for j, (x, y) in enumerate(mixture.means):
        row = int((y - y_low) / (y_high - y_low) * cells.shape[0])
        column = int((x - x_low) / (x_high - x_low) * cells.shape[1])
        around = cells[row - 2 : row + 3, column - 2 : column + 3]
        assert (around[..., 3] > 0.3).any()
        filled = around[around[..., 3] > 0]
        tint = np.tile(to_rgb(colour(j)), (len(filled), 1))
        np.testing.assert_allclose(filled[:, :3], tint, atol=1e-12)


def test_colours_are_mixed_by_responsibility() -> None:
    assert mixed_colours(np.eye(3)).tolist() == [list(to_rgb(c)) for c in COLOURS[:3]]
    half = mixed_colours(np.array([[0.5, 0.5]]))[0]
    np.testing.assert_allclose(half, np.mean([to_rgb(c) for c in COLOURS[:2]], axis=0))
    rng = np.random.default_rng(0)
    many = mixed_colours(rng.dirichlet(np.ones(50), 100))
    assert many.shape == (100, 3)
    assert (many >= 0).all()
    assert (many <= 1).all()


def test_given_responsibilities_colour_the_rows(axes: Axes, mixture: Mixture) -> None:
    X, _ = mixture.sample(30, seed=1)
    R = np.eye(3)[np.arange(30) % 3]
    draw_pair(axes, mixture, X, responsibilities=R)
    [points] = points_of(axes)
    expected = [to_rgb(colour(i % 3)) for i in range(30)]
    np.testing.assert_allclose(points.get_facecolors()[:, :3], expected)


@pytest.mark.parametrize(
    ("offset", "scale"),
    [(1.7e12, 1.0), (0.0, 1e-9), (0.0, 1e12), (-1e9, 1e-3)],
)
@pytest.mark.parametrize("n", [300, 3000])
def test_offsets_and_units_do_not_change_the_picture(
    axes: Axes, offset: float, scale: float, n: int
) -> None:
    plain = Mixture([0.6, 0.4], [[0.0, 0.0], [3.0, 1.0]], np.tile(np.eye(2), (2, 1, 1)))
    moved = Mixture(
        plain.weights, offset + scale * plain.means, scale**2 * np.asarray(plain.covariances)
    )
    X, _ = moved.sample(n, seed=0)
    with style():
        draw_pair(axes, moved, X)
        draw_it(axes)
    low, high = axes.get_xlim()
    assert -6 < (low - offset) / scale < -2
    assert 5 < (high - offset) / scale < 9
    for level, path in zip(contours_of(axes).levels, contours_of(axes).get_paths(), strict=True):
        density = np.exp(moved.log_density(path.vertices))
        np.testing.assert_allclose(density, level, rtol=0.05)


def test_a_component_narrower_than_the_grid_is_drawn_without_a_word(axes: Axes) -> None:
    r = 1 - 1e-10
    mixture = Mixture([1.0], [[0.3, 0.1]], [[[1.0, r], [r, 1.0]]])
    with style():
        draw_pair(axes, mixture, mixture.sample(100, seed=0)[0])
        draw_it(axes)
    assert len(ellipses_of(axes)) == 2


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_handful_of_rows_can_be_drawn(axes: Axes, mixture: Mixture, n: int) -> None:
    X, _ = mixture.sample(n, seed=0)
    draw_pair(axes, mixture, X)
    draw_it(axes)
    assert len(points_of(axes)[0].get_offsets()) == n


def test_bounds_hold_rows_and_mixture(mixture: Mixture) -> None:
    alone = bounds_of(mixture, None)
    X = mixture.means.mean(axis=0) + np.array([[0.0, 0.0], [1e-3, 1e-3]])
    for (low, high), (least, most) in zip(bounds_of(mixture, X), alone, strict=True):
        assert low < high
        assert least < most
    far = np.tile(mixture.means[0] + 1e3, (5000, 1)) + mixture.sample(5000, seed=0)[0]
    (low, high), _ = bounds_of(mixture, far)
    assert low < mixture.means[:, 0].min()
    assert high > 1000


# --- one feature


def lines_of(axes: Axes) -> tuple[list[Array], Array]:
    """Return the curves of the components and that of the mixture, (m, 2) each."""
    *components, total = [np.asarray(line.get_xydata()) for line in axes.lines]
    return components, total


def test_one_feature_shows_each_weighted_component_and_their_sum(axes: Axes) -> None:
    mixture = Mixture([0.3, 0.7], [[0.0], [5.0]], [[[1.0]], [[4.0]]])
    draw_single(axes, mixture, None)
    components, total = lines_of(axes)
    known = [(0.3, 0.0, 1.0), (0.7, 5.0, 2.0)]
    for j, (w, m, s) in enumerate(known):
        x, y = components[j].T
        np.testing.assert_allclose(y, w * norm.pdf(x, m, s), rtol=1e-9)
        assert x.min() <= m - 4 * s
        assert x.max() >= m + 4 * s
        assert axes.lines[j].get_color() == colour(j)
    x, y = total.T
    np.testing.assert_allclose(y, sum(w * norm.pdf(x, m, s) for w, m, s in known), rtol=1e-9)
    assert axes.lines[-1].get_color() == INK
    assert np.trapezoid(total[:, 1], total[:, 0]) == pytest.approx(1, abs=0.01)


def test_the_histogram_is_numpys_of_the_weighted_rows(axes: Axes) -> None:
    x = faithful()[:, [1]]
    weights = np.random.default_rng(0).uniform(0, 3, len(x))
    mixture = Mixture([1.0], [[70.0]], [[[180.0]]])
    draw_single(axes, mixture, x, weights)
    [bars] = [p for p in axes.patches if isinstance(p, StepPatch)]
    heights, edges, _ = bars.get_data()
    expected, _ = np.histogram(x[:, 0], edges, weights=weights, density=True)
    np.testing.assert_allclose(heights, expected)
    assert np.sum(heights * np.diff(edges)) == pytest.approx(1)


def test_the_histogram_of_rows_outside_the_axis_is_not_blown_up(axes: Axes) -> None:
    mixture = Mixture([1.0], [[0.0]], [[[1.0]]])
    x = np.concatenate([np.zeros(60), np.full(40, 1e9)])[:, None]
    draw_single(axes, mixture, x, bounds=(-4.0, 4.0))
    [bars] = [p for p in axes.patches if isinstance(p, StepPatch)]
    heights, edges, _ = bars.get_data()
    assert np.sum(heights * np.diff(edges)) == pytest.approx(0.6)


@pytest.mark.parametrize("sd", [1e-2, 1e-4, 1e-7])
def test_a_narrow_component_is_drawn_to_its_full_height(axes: Axes, sd: float) -> None:
    mixture = Mixture([0.5, 0.5], [[0.0], [0.3337]], [[[1.0]], [[sd**2]]])
    draw_single(axes, mixture, mixture.sample(500, seed=0)[0])
    components, total = lines_of(axes)
    peak = 0.5 * norm.pdf(0, 0, sd)
    assert components[1][:, 1].max() == pytest.approx(peak, rel=0.01)
    assert total[:, 1].max() >= 0.99 * peak
    assert (np.diff(total[:, 0]) > 0).all()


@pytest.mark.parametrize(("k", "numbered"), [(60, True), (61, False)])
def test_many_components_are_not_numbered(axes: Axes, k: int, numbered: bool) -> None:
    mixture = Mixture(np.full(k, 1 / k), np.arange(float(k))[:, None], np.full((k, 1, 1), 0.1))
    draw_single(axes, mixture, None)
    assert len(axes.texts) == (k if numbered else 0)


def test_thirty_components_have_colours_and_shapes_of_their_own(axes: Axes) -> None:
    k = 30
    means = np.array([[j % 6, j // 6] for j in range(k)], dtype=float)
    mixture = Mixture(np.full(k, 1 / k), means, np.full((k, 2), 0.01), "diag")
    X, labels = mixture.sample(600, seed=0)
    draw_pair(axes, mixture, X)
    looks = [(line.get_color(), line.get_marker()) for line in axes.lines]
    assert len(set(looks)) == len(looks) == k
    rows = points_of(axes)
    assert sum(len(points.get_offsets()) for points in rows) == len(X)
    assert len(rows) == len({marker(j) for j in labels}) == 5
    one = Figure().subplots()
    draw_single(one, mixture.marginal([0]), None)
    lines = one.lines[:k]
    assert len({(line.get_color(), str(dash(j))) for j, line in enumerate(lines)}) == k


# --- logarithmic axes


def test_on_logarithmic_axes_areas_are_shares_and_contours_at_their_densities(axes: Axes) -> None:
    rng = np.random.default_rng(0)
    money = np.exp(rng.normal(3, 2, 500))
    assert spans_powers(money)
    assert not spans_powers(money - money.min())  # a zero
    assert not spans_powers(faithful()[:, 1])
    mixture = Mixture([0.5, 0.5], [[10.0, 1], [2000, 3]], [[4.0, 1], [90_000, 1]], "diag")
    one = mixture.marginal([0])
    axes.set_xscale("log")
    draw_single(axes, one, one.sample(400, seed=0)[0], bounds=(0.5, 5000.0))
    total = np.asarray(axes.lines[-1].get_xydata())
    assert np.trapezoid(total[:, 1], np.log10(total[:, 0])) == pytest.approx(1, abs=0.01)
    [bars] = [p for p in axes.patches if isinstance(p, StepPatch)]
    heights, edges, _ = bars.get_data()
    assert np.sum(heights * np.diff(np.log10(edges))) == pytest.approx(1)
    pair = Figure().subplots()
    pair.set_xscale("log")
    X, _ = mixture.sample(3000, seed=0)  # so many are drawn as cells
    draw_pair(pair, mixture, np.maximum(X, 0.6), [(0.5, 5000.0), (-3.0, 7.0)])
    pair.figure.draw_without_rendering()  # type: ignore[union-attr]
    assert pair.get_xscale() == "log"
    for level, path in zip(contours_of(pair).levels, contours_of(pair).get_paths(), strict=True):
        density = np.exp(mixture.log_density(path.vertices))
        assert np.median(density) == pytest.approx(level, rel=0.2)
