"""Fits of one DataFrame: rows are read once, and what can share a scan shares it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

from pyspark.sql import DataFrame

from sparkgmm.core.fit import check_rows, fit
from sparkgmm.core.rows import Rows, pilot_rows
from sparkgmm.core.search import Search
from sparkgmm.core.selection import Candidate, none_sound
from sparkgmm.covariances import FAMILIES
from sparkgmm.errors import FitError, InputError
from sparkgmm.spark.cluster_rows import Blocks
from sparkgmm.spark.driver_memory import check_models_fit
from sparkgmm.spark.lost import lost_spark
from sparkgmm.spark.ml.columns import check_dataframe, find_features_column

# With fewer rows than this, for each component and each row that it needs, one is on its own.
_ROWS_TO_TELL = 5

T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)

Outcome = Candidate | Exception
"""What became of a plan: the one fitted candidate, or why there is none."""


@dataclass(frozen=True)
class Plan:
    """One fit: the column of features, that of weights or None, and one k and covariance type."""

    features: str
    weight: str | None
    k: int
    covariance_type: str
    search: Search

    @property
    def columns(self) -> tuple[str, str | None, str]:
        """What must be equal for two plans to share the rows."""
        return self.features, self.weight, self.search.missing

    @property
    def products(self) -> bool:
        """Whether its covariance type asks for products of features."""
        return not FAMILIES[self.covariance_type].diagonal


def fit_all(df: DataFrame, plans: Sequence[Plan]) -> list[Outcome]:
    """Carry out all plans; one that fails leaves the others their results.

    Plans over the same columns share one reading of the rows, and those that differ in nothing but
    k and covariance type their scans.
    """
    outcomes: dict[int, Outcome] = {}
    for (name, weight, missing), mine in _grouped(range(len(plans)), lambda i: plans[i].columns):
        group = {i: plans[i] for i in mine}
        try:
            features = find_features_column(df, name, weight).with_missing(missing)
            products = any(plan.products for plan in group.values())
            check_models_fit(len(features.names), *_asked(group))
            with Blocks(df, features, products=products) as blocks:
                check_dataframe(blocks, features)
                outcomes |= _fit_blocks(blocks, features.names, group)
        except Exception as error:
            outcomes |= dict.fromkeys(mine, lost_spark(error) or error)
    return [outcomes[i] for i in range(len(plans))]


def _asked(plans: Mapping[int, Plan]) -> tuple[set[int], set[str]]:
    return {plan.k for plan in plans.values()}, {plan.covariance_type for plan in plans.values()}


def _fit_blocks(
    blocks: Blocks, names: tuple[str, ...], plans: Mapping[int, Plan]
) -> dict[int, Outcome]:
    rows_of = cache(blocks.rows)  # another sample for another seed
    outcomes: dict[int, Outcome] = {}
    for search, alike in _grouped(plans, lambda i: plans[i].search):
        for joint in _joint([plans[i] for i in alike], search):
            rows = rows_of(search.seed, pilot_rows(max(joint.k)))
            found = _fit_joint(rows, joint, names)
            for i in alike:
                key = plans[i].k, plans[i].covariance_type
                if key in found:
                    outcomes[i] = found[key]
    return outcomes


def _joint(plans: Sequence[Plan], search: Search) -> Iterator[Search]:
    """Yield searches over every k with every covariance type that make up just what is planned."""
    planned: dict[str, set[int]] = {}
    for plan in plans:
        planned.setdefault(plan.covariance_type, set()).add(plan.k)
    for ks, types in _grouped(planned, lambda name: frozenset(planned[name])):
        yield replace(search, k=tuple(sorted(ks)), covariance_type=tuple(types))


def _fit_joint(
    rows: Rows, search: Search, names: tuple[str, ...]
) -> dict[tuple[int, str], Outcome]:
    """Fit what can be fitted; return what became of each candidate."""
    outcomes: dict[tuple[int, str], Outcome] = {}
    possible = []
    for k in search.k:
        try:
            check_rows(rows, k, names)
            possible.append(k)
        except InputError as error:
            outcomes |= {(k, name): error for name in search.covariance_type}
    if not possible:
        return outcomes
    keys = [(k, name) for k in possible for name in search.covariance_type]
    try:
        candidates = fit(rows, replace(search, k=tuple(possible)), names).candidates
        for candidate in candidates:
            k = candidate.k + candidate.n_dropped
            sound = candidate.degenerate is None
            outcomes[k, candidate.covariance_type] = candidate if sound else none_sound([candidate])
    except Exception as error:
        outcomes |= dict.fromkeys(keys, error)
    for k, name in keys:
        if _is_poor(outcomes[k, name]) and _too_few_rows(rows, k, name):
            outcomes[k, name] = _fit_anyway(rows, search, names, k, name)
    return outcomes


def _is_poor(outcome: Outcome) -> bool:
    return isinstance(outcome, FitError) or (
        isinstance(outcome, Candidate) and outcome.n_dropped > 0
    )


def _too_few_rows(rows: Rows, k: int, covariance_type: str) -> bool:
    """Return whether rows are too few to distinguish a cluster from a few rows near each other."""
    needed = FAMILIES[covariance_type].least_rows(len(rows.profile.mean))
    return rows.profile.n_rows < _ROWS_TO_TELL * k * needed


def _fit_anyway(
    rows: Rows, search: Search, names: tuple[str, ...], k: int, covariance_type: str
) -> Outcome:
    """Fit all k components to a handful of rows, as examples do and as Spark's own would."""
    single = replace(search, k=(k,), covariance_type=(covariance_type,), lenient=True)
    try:
        return fit(rows, single, names).chosen
    except FitError as error:
        return error


def _grouped(items: Iterable[T], key: Callable[[T], Key]) -> list[tuple[Key, list[T]]]:
    """Return the items by their key, both in the order of their first appearance."""
    groups: dict[Key, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())
