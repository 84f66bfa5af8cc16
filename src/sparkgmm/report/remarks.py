"""What a reader should know before trusting a run, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sparkgmm.core.cautions import hidden, not_converged, refused, set_aside, widths_held
from sparkgmm.core.dispersion import overdispersed
from sparkgmm.core.sample import Membership
from sparkgmm.core.selection import Candidate
from sparkgmm.mixture import Mixture
from sparkgmm.options import KEYS
from sparkgmm.report.past_runs import PastRuns
from sparkgmm.report.views import correlation, names_of, uncorrelated

# A correlation matrix this ill-conditioned is near-singular.
_SINGULAR = 1e6
# So many times more rows in the tail than the mixture expects are heavy tails.
_HEAVY = 5.0
_TAIL = 0.001
_DRAWN = 20_000
# So many columns at fault are named.
_COLUMNS = 8


def remarks(
    chosen: Candidate,
    candidates: Sequence[Candidate],
    membership: Membership,
    metrics: Mapping[str, Any],
    configuration: Mapping[str, Any],
    past: PastRuns | None = None,
    column_cautions: Sequence[str] = (),
) -> list[str]:
    """Return the warnings of a run, the gravest first; an empty list if there is nothing to say."""
    model = configuration["model"]
    return [
        *(caution.text for caution in refused(candidates, KEYS)),
        *(_sentence(caution.text) for caution in set_aside(chosen, KEYS)),
        *(_sentence(caution.text) for caution in hidden(chosen, KEYS)),
        *_about_drift(past),
        *_about_the_end(chosen, int(model["max_iter"])),
        *_about_components(chosen),
        *_about_fit(membership),
        *_about_counts(membership),
        *_about_choice(chosen, candidates, str(model["criterion"])),
        *map(_sentence, column_cautions),
        *_about_rows(metrics, str(configuration["input"]["invalid_rows"])),
    ]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _about_drift(past: PastRuns | None) -> Iterator[str]:
    if past is None:
        return
    for crossing in past.crossed:
        level = "drifted too far" if crossing.level == "fail" else "drifted"
        yield f"The run {level} since {past.against}: {crossing}."


def _about_the_end(chosen: Candidate, max_iter: int) -> Iterator[str]:
    if not chosen.converged:
        yield f"{_sentence(not_converged(chosen, max_iter))} Raise model.max_iter."
    if chosen.n_starts > 2 and chosen.n_agreeing == 1:
        yield (
            f"Only one of {chosen.n_starts} starts ended in this optimum. A higher model.n_init "
            "may find a better one."
        )
    if chosen.n_dropped:
        yield (
            f"{chosen.n_dropped} component(s) found no rows of their own and were dropped: the "
            f"mixture has k = {chosen.k}."
        )


def _about_components(chosen: Candidate) -> Iterator[str]:
    for text in widths_held(chosen.held, KEYS):
        yield _sentence(text)
    names = names_of(chosen.mixture)
    for j, involved in enumerate(_nearly_singular(chosen.mixture)):
        if involved is not None:
            yield (
                f"Component {j} is nearly singular: {' and '.join(names[i] for i in involved)} "
                "almost determine each other there. Its density is sharp, and its covariance "
                "hard to invert; consider leaving one of them out."
            )


def _nearly_singular(mixture: Mixture) -> list[list[int] | None]:
    """Return for each component the two features that almost determine each other, or None."""
    if uncorrelated(mixture):
        return [None] * mixture.k
    found: list[list[int] | None] = []
    for covariance in mixture.stack.dense(len(mixture.stack.values)):
        values, vectors = np.linalg.eigh(correlation(covariance))
        singular = values[0] * _SINGULAR < values[-1]
        found.append(np.argsort(-np.abs(vectors[:, 0]))[:2].tolist() if singular else None)
    return found if len(found) == mixture.k else found * mixture.k


def _about_fit(membership: Membership) -> Iterator[str]:
    """Compare the tail of the rows with that of the mixture itself."""
    drawn, _ = membership.mixture.sample(_DRAWN, seed=1)
    drawn = membership.sample.like_it(drawn)
    edge = np.quantile(membership.mixture.log_density(drawn), _TAIL)
    weights = membership.sample.weights
    share = float(weights[membership.log_density < edge].sum() / weights.sum())
    n = weights.sum() ** 2 / (weights**2).sum()  # Kish: what uneven weights leave of the rows
    noise = 3 * np.sqrt(_TAIL / n)
    if share > max(_HEAVY * _TAIL, _TAIL + noise):
        yield (
            f"The data have heavier tails than the mixture: {share:.2%} of the rows are where it "
            f"expects {_TAIL:.1%}. Components are drawn wide by them; more components, or a "
            "transformed feature, may describe the bulk better."
        )


def _about_counts(membership: Membership) -> Iterator[str]:
    for name, j, times in overdispersed(membership):
        yield (
            f"Counts of {name} vary more than a Poisson does: in component {j} their variance is "
            f"{times:.1f} times their mean. Components may be split for it, and what looks like an "
            f"outlier may be none; consider {name}, or its logarithm, as a numeric feature."
        )


def _about_choice(
    chosen: Candidate, candidates: Sequence[Candidate], criterion: str
) -> Iterator[str]:
    tried = {c.k + c.n_dropped for c in candidates}
    if len(tried) > 1 and chosen.k == max(tried):
        yield (
            f"The largest k that was tried, {chosen.k}, has the lowest {criterion}: more "
            "components may lower it further."
        )
    ghosts = [c for c in candidates if c.degenerate is not None]
    if ghosts:
        which = ", ".join(
            f"k = {c.asked_k} {c.covariance_type} ({c.degenerate})" for c in ghosts[:5]
        )
        more = f" and {len(ghosts) - 5} more" if len(ghosts) > 5 else ""
        yield f"Degenerate candidates were left out of the choice: {which}{more}."


def _about_rows(metrics: Mapping[str, Any], invalid_rows: str) -> Iterator[str]:
    invalid = int(metrics["rows_invalid"])
    if invalid:
        fate = (
            "are in rejected/ with the reason" if invalid_rows == "quarantine" else "were left out"
        )
        share = invalid / max(int(metrics["rows_read"]), 1)
        blame = _blame(metrics.get("invalid_by_column", {}))
        yield f"{invalid:,} of the rows read ({share:.2%}) were invalid: they {fate}{blame}."
    if metrics["constant_features_dropped"]:
        dropped = ", ".join(metrics["constant_features_dropped"])
        yield f"Dropped as constant: {dropped}."


def _blame(by_column: Mapping[str, int]) -> str:
    """Name the columns at fault, the worst first."""
    worst = sorted(((n, name) for name, n in by_column.items() if n), key=lambda pair: -pair[0])
    if not worst:
        return ""
    said = ", ".join(f"{name} in {n:,} rows" for n, name in worst[:_COLUMNS])
    more = f" and {len(worst) - _COLUMNS} more columns" if len(worst) > _COLUMNS else ""
    return f". At fault: {said}{more}"
