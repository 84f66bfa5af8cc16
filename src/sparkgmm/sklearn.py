"""A scikit-learn estimator: its GaussianMixture, fitted by this package's engine.

scikit-learn is needed here alone: `pip install 'sparkgmm[sklearn]'`.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sparkgmm.core.em import Settings, Trajectory
from sparkgmm.core.evidence import Evidence, OverRows
from sparkgmm.core.fit import fit as fit_search
from sparkgmm.core.model import Model, from_mixture
from sparkgmm.core.prior import m_step
from sparkgmm.core.profile import Frame, squared
from sparkgmm.core.race import Race
from sparkgmm.core.rows import LocalRows, Rows, one_blas_thread
from sparkgmm.core.search import Search
from sparkgmm.core.widths import Widths
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import Moments
from sparkgmm.errors import InputError, SparkGmmError, option_names
from sparkgmm.mixture import Mixture
from sparkgmm.options import PYTHON
from sparkgmm.products import Array
from sparkgmm.scikit import mixture_from_sklearn, mixture_to_sklearn

try:
    from sklearn import config_context
    from sklearn.base import _fit_context
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as _GaussianMixture
    from sklearn.utils import check_random_state
    from sklearn.utils._array_api import get_namespace
    from sklearn.utils._param_validation import StrOptions
    from sklearn.utils.validation import validate_data
except ImportError as error:
    raise ImportError(
        f"sparkgmm.sklearn needs scikit-learn 1.6 or later ({error}): "
        "pip install 'sparkgmm[sklearn]'"
    ) from error

_INITS = {"kmeans", "k-means++", "random", "random_from_data", "auto"}
_NOT_CONVERGED = (
    "Best performing initialization did not converge. Try different init parameters, or increase "
    "max_iter, tol, or check for degenerate data."
)
_ILL_DEFINED = (
    "Fitting the mixture model failed because some components have ill-defined empirical "
    "covariance (for instance caused by singleton or collapsed samples). Try to decrease the "
    "number of components, increase reg_covar, or scale the input data."
)


class GaussianMixture(_GaussianMixture):  # type: ignore[misc]  # without types
    """scikit-learn's `GaussianMixture`, fitted by the engine of this package.

    It has the parameters, attributes and methods of `sklearn.mixture.GaussianMixture`, of which it
    is a subclass, and is fitted to the same starts. What differs:

    - EM is accelerated, and `tol` is the estimated distance of the mean log-likelihood to its
      limit in nats, not the length of the last step: a fit that says `converged_` is that close.
    - Of several starts (`n_init`) the most likely sound one wins. A spike, whose likelihood is
      without bound, wins only where there is nothing else.
    - `init_params="auto"` draws `n_init` starts by this package's own means, and moves components
      out of poor optima; components are then ordered by falling weight, and none is narrower than
      the values were recorded. `random_state` seeds it.
    - Sums are taken in float64 about the data's own mean and scale, so that timestamps cost no
      digits; `covariances_` and the other attributes are of the type of X, float32 or float64.
    - `mixture_` is the fit as a `sparkgmm.Mixture`, with all that that can do.

    As there, `reg_covar` is added to the variances in the data's own units, `lower_bound_` is the
    mean log-likelihood at the start of the last step, and `max_iter` counts steps.

    Parameters
    ----------
    n_components : int, default 1
    covariance_type : "full", "tied", "diag" or "spherical", default "full"
    tol : float, default 1e-3, in nats a row
    reg_covar : float, default 1e-6
    max_iter : int, default 100
    n_init : int, default 1
    init_params : "kmeans", "k-means++", "random", "random_from_data" or "auto", default "kmeans"
    weights_init, means_init, precisions_init : where to start, any of them, or None
        In the shapes of `weights_`, `means_` and `precisions_`; components keep their order.
    random_state : int, RandomState or None, default None
    warm_start : bool, default False
    verbose, verbose_interval : int, default 0 and 10

    Raises
    ------
    ValueError
        If X or a parameter is wrong, or every start ended without volume.

    Examples
    --------
    >>> import numpy as np
    >>> from sparkgmm.sklearn import GaussianMixture
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> GaussianMixture(n_components=2, random_state=0).fit(X).means_.round(6).tolist()
    [[10.0, 2.0], [1.0, 2.0]]

    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012  # as scikit-learn has it
        **_GaussianMixture._parameter_constraints,
        "init_params": [StrOptions(_INITS)],
    }

    covariance_type: str
    init_params: str
    weights_: Array
    lower_bounds_: list[float]

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn is to know: arrays are numpy's, whatever is dispatched."""
        tags = super().__sklearn_tags__()
        tags.array_api_support = False
        return tags

    @property
    def mixture_(self) -> Mixture:
        """The fit as a `sparkgmm.Mixture`, its components in this order."""
        if not hasattr(self, "weights_"):
            raise AttributeError("mixture_ is there once the estimator is fitted")
        return mixture_from_sklearn(self)

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit_predict(self, X: Any, y: Any = None) -> Any:
        """Fit to X (n, d) and return the component of each row, (n,); y is not looked at."""
        with config_context(array_api_dispatch=False):  # all arrays are numpy's here
            return self._fit_predict(X)

    def _fit_predict(self, X: Any) -> Any:
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        if len(X) < self.n_components:
            raise ValueError(
                f"Expected n_samples >= n_components but got n_components = {self.n_components}, "
                f"n_samples = {len(X)}"
            )
        _with_namespace(self._check_parameters, X)
        warm = self.warm_start and hasattr(self, "converged_")
        random_state = check_random_state(self.random_state)
        self.converged_ = False
        if self.init_params == "auto" and not warm and self.max_iter and not self._has_start():
            self._search(X, random_state)
        else:
            self._climb(X, random_state, warm)
        if not self.converged_ and self.max_iter:
            warnings.warn(_NOT_CONVERGED, ConvergenceWarning, stacklevel=3)
        for name in ("weights_", "means_", "covariances_", "precisions_cholesky_", "precisions_"):
            setattr(self, name, np.asarray(getattr(self, name), dtype=X.dtype))
        return np.argmax(self._estimate_weighted_log_prob(X), axis=1)

    def _has_start(self) -> bool:
        given = self.weights_init, self.means_init, self.precisions_init
        return any(value is not None for value in given)

    def _initialize_parameters(self, X: Array, random_state: Any, xp: Any = None) -> None:
        """Start as scikit-learn does; where "auto" is no start of its own it is k-means."""
        given, self.init_params = self.init_params, self._theirs()
        try:
            _with_namespace(super()._initialize_parameters, X, random_state)
        finally:
            self.init_params = given

    def _theirs(self) -> str:
        return "kmeans" if self.init_params == "auto" else str(self.init_params)

    def _climb(self, X: Array, random_state: Any, warm: bool) -> None:
        """Climb from scikit-learn's starts, each alone: more of them never end lower."""
        rows = self._rows(X)
        frame = _frame(rows)
        starts = []
        for _ in range(1 if warm else self.n_init):
            if not warm:
                self._initialize_parameters(X, random_state)
            starts.append(self._parameters())
        if not self.max_iter:
            self._set_parameters(starts[-1])
            self.n_iter_, self.lower_bound_, self.lower_bounds_ = 0, -np.inf, []
            return
        prior = _Ridge.of(self.reg_covar, frame)
        evidence = OverRows(rows, frame)
        settings = Settings(tol=self.tol, max_iter=self.max_iter, prior=prior)
        settings = settings.over(rows, evidence)
        races = []
        with one_blas_thread:
            for i, start in enumerate(starts):
                state = Trajectory(self._model(start, frame))
                races.append(Race([state], evidence, settings, self._progress(i)))
                races[-1].run(len(X))
        for race in sorted(races, key=lambda race: race.rank(race.states[0])):
            if self._take(race.states[0], prior, frame):
                return
        raise ValueError(_ILL_DEFINED)

    def _rows(self, X: Array) -> LocalRows:
        return LocalRows.of_array(X, None, 0, not FAMILIES[self.covariance_type].diagonal)

    def _take(self, state: Trajectory, prior: _Ridge, frame: Frame) -> bool:
        """Take the step that the last pass allows, as scikit-learn does; say whether one was made.

        Where a component has lost its rows or its volume there is none: what was measured is taken.
        """
        if state.measured is None:
            return False
        model, moments = state.model, state.measured.moments
        if not state.collapsed:
            with contextlib.suppress(np.linalg.LinAlgError):
                model = m_step(model.family, moments, prior, model.stack)
        self._set_parameters(_attributes(model, frame))
        self.converged_ = state.converged
        self.n_iter_ = state.n_iter
        self.lower_bounds_ = [mean - frame.log_volume for mean in state.log_likelihoods]
        self.lower_bound_ = self.lower_bounds_[-1]
        return True

    def _search(self, X: Array, random_state: Any) -> None:
        """Search as `fit_array` does."""
        rows = self._rows(X)
        frame = _frame(rows)
        search = Search(
            k=(self.n_components,),
            covariance_type=(self.covariance_type,),
            n_init=self.n_init,
            seed=int(random_state.randint(2**31 - 1)),
            settings=Settings(
                tol=self.tol,
                max_iter=self.max_iter,
                prior=replace(_Ridge.of(self.reg_covar, frame), holds=True),
            ),
        )
        try:
            with option_names(PYTHON):
                chosen = fit_search(rows, search).chosen
        except InputError:
            raise
        except SparkGmmError:
            chosen = None
        if chosen is None or chosen.n_dropped:  # n_components are asked for, sound or not
            chosen = fit_search(rows, replace(search, lenient=True)).chosen
        fitted = mixture_to_sklearn(chosen.mixture)
        self._set_parameters(_GaussianMixture._get_parameters(fitted))
        self.converged_, self.n_iter_ = chosen.converged, chosen.n_iter
        self.lower_bounds_ = [value / len(X) for value in chosen.log_likelihoods]
        self.lower_bound_ = self.lower_bounds_[-1]

    def _parameters(self) -> tuple[Any, ...]:
        """Return the current parameters; `precisions_init` sets no covariances there."""
        chol = np.asarray(self.precisions_cholesky_, dtype=np.float64)
        if not FAMILIES[self.covariance_type].diagonal:
            root = np.linalg.inv(chol)
            covariances = np.swapaxes(root, -1, -2) @ root
        else:
            covariances = 1 / chol**2
        return self.weights_, self.means_, covariances, self.precisions_cholesky_

    def _model(self, start: tuple[Any, ...], frame: Frame) -> Model:
        self._set_parameters(start)
        weights = np.maximum(np.asarray(self.weights_, dtype=np.float64), np.finfo(float).tiny)
        self.weights_ = weights / weights.sum()
        try:
            return from_mixture(mixture_from_sklearn(self), frame)
        except InputError as error:
            raise ValueError(f"{_ILL_DEFINED} ({error})") from error

    def _progress(self, start: int) -> Any:
        if not self.verbose:
            return None
        print(f"Initialization {start}")

        def tell(n: int, live: int, mean: float, distance: float) -> None:
            if n % self.verbose_interval == 0:
                detail = f"\t log-likelihood {mean:.5f}, {distance:.2g} short of its limit"
                print(f"  Iteration {n}" + (detail if self.verbose > 1 else ""))

        return tell

    def _estimate_log_prob(self, X: Any, xp: Any = None) -> Array:
        """Return log N(x_i; component j), (n, k), by residuals, in which nothing cancels."""
        rows, means = np.asarray(X, dtype=np.float64), np.asarray(self.means_, dtype=np.float64)
        factors = np.asarray(self.precisions_cholesky_, dtype=np.float64)
        shared = FAMILIES[self.covariance_type].shared
        k, d = means.shape
        logs = np.empty((len(rows), k))
        for j in range(k):
            factor = factors if shared else factors[j]
            residuals = rows - means[j]
            if factor.ndim == 2:
                whitened, log_det = residuals @ factor, np.log(np.diagonal(factor)).sum()
            else:
                whitened, log_det = residuals * factor, (np.log(factor) * np.ones(d)).sum()
            logs[:, j] = log_det - 0.5 * np.einsum("ni,ni->n", whitened, whitened)
        logs -= 0.5 * d * np.log(2 * np.pi)
        return logs.astype(np.asarray(X).dtype, copy=False)


@dataclass(frozen=True)
class _Ridge:
    """`reg_covar` added to the variances in the data's own units: `ridge` (d,) standardised.

    As scikit-learn has it. The widths judge a solution, and hold no component open unless `holds`.
    """

    ridge: Array
    widths: Widths | None = None
    holds: bool = False

    @classmethod
    def of(cls, reg_covar: float, frame: Frame) -> _Ridge:
        return cls(reg_covar / frame.scale**2)

    @property
    def exact(self) -> bool:
        return not self.holds and not self.ridge.any()

    def over(self, rows: Rows, evidence: Evidence) -> _Ridge:
        return replace(self, widths=Widths.of(rows, evidence, float(self.ridge.min())))

    def join(self, moments: Moments, family: Family) -> Moments:
        return moments._replace(ridge=self.ridge)

    def within(self, model: Model, counts: Array | None = None) -> Model:
        if self.widths is None or not self.holds:
            return model
        return self.widths.raised(model, counts)

    def at_least(self, variances: Array) -> _Ridge:
        return self

    def log_density(self, model: Model, moments: Moments) -> float:
        """Return minus half the sum of ridge times the precisions' diagonals, a row."""
        if not self.ridge.any():
            return 0.0
        stack = model.stack
        if stack.values.ndim == 3:
            diagonals = np.einsum("mii->mi", stack.precisions)
        else:
            diagonals = 1 / stack.variances
        return -0.5 * float((moments.shares * (diagonals @ self.ridge)).sum())


def _with_namespace(method: Any, *arguments: Any) -> None:
    """Call a method of scikit-learn's, which from 1.9 on asks for the namespace of its arrays."""
    namespace = {"xp": get_namespace(arguments[0])[0]}
    known = inspect.signature(method).parameters
    method(*arguments, **{name: xp for name, xp in namespace.items() if name in known})


def _frame(rows: LocalRows) -> Frame:
    """Return coordinates in which a feature that is constant keeps its scale."""
    profile = rows.profile
    variance = np.where(profile.high > profile.low, profile.variance, 1.0)
    if not (np.isfinite(variance) & (variance > np.finfo(np.float64).tiny)).all():
        raise ValueError("the variance of a feature is not a normal float64: scale the input data")
    scale = np.sqrt(variance)
    correlation = profile.scatter / profile.weight / squared(scale, profile.scatter)
    return Frame(profile.mean, scale, correlation, profile.weight)


def _attributes(model: Model, frame: Frame) -> tuple[Array, ...]:
    """Return weights, means, covariances and precision factors as scikit-learn keeps them."""
    family, stack = model.family, model.stack
    means = frame.shift + model.means * frame.scale
    covariances, factors = family.written(stack, frame.scale), stack.precision_factors
    if stack.values.ndim > 1:  # else they are in the data's units already
        factors = factors / (frame.scale[:, None] if stack.values.ndim == 3 else frame.scale)
    return model.weights, means, covariances, family.compact(factors)
