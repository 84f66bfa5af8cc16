"""Components as rows: dense where they are few numbers, in the shape of their type beyond."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq
import pytest

from sparkgmm.mixture import COVARIANCE_TYPES, Mixture
from sparkgmm.runs.folder import components_parquet
from sparkgmm.spark.components import DENSE_UP_TO, ComponentRow, component_rows, mixture_of

pytestmark = pytest.mark.spark


def wide(covariance_type: str, d: int) -> Mixture:
    rng = np.random.default_rng(d)
    A = rng.standard_normal((d, 3))
    dense = A @ A.T + np.eye(d)
    covariances = {
        "diag": rng.uniform(1, 2, (2, d)),
        "spherical": np.array([1.0, 2.0]),
        "tied": dense,
    }.get(covariance_type, np.array([dense, 2 * dense]))
    return Mixture([0.75, 0.25], rng.standard_normal((2, d)), covariances, covariance_type)


@pytest.mark.parametrize("d", [1, DENSE_UP_TO, DENSE_UP_TO + 1])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_components_as_rows_are_the_mixture_and_matrices_up_to_a_width(
    covariance_type: str, d: int
) -> None:
    mixture = wide(covariance_type, d)
    rows = component_rows(mixture)
    again = mixture_of(rows, covariance_type, None)
    assert again == mixture
    shapes = [None if row.covariance is None else np.shape(row.covariance) for row in rows]
    beyond = {"diag": [(1, d)] * 2, "spherical": [(1, 1)] * 2, "tied": [(d, d), None]}
    expected = beyond.get(covariance_type) if d > DENSE_UP_TO else None
    assert shapes == (expected or [(d, d)] * 2)
    stored = pq.read_table(io.BytesIO(components_parquet(mixture))).to_pylist()
    assert [ComponentRow(**row) for row in stored] == rows
