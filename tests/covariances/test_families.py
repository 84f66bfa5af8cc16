"""Covariance families: the seam at which a type is added, and the algebra of their matrices."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import sparkgmm
from helpers.data_sets import random_mixture
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.moments import Moments
from sparkgmm.covariances.stacks import Dense, Stack

PACKAGE = Path(sparkgmm.__file__).parent
# What a user may write in a configuration is listed there.
LISTS = {"runs/config.py"}
EVERY = pytest.mark.parametrize("name", FAMILIES)


def compared_or_looked_up(node: ast.AST) -> list[ast.expr]:
    """Return what decides a branch: operands of a comparison, keys of a table."""
    if isinstance(node, ast.Compare):
        return [node.left, *node.comparators]
    if isinstance(node, ast.Dict):
        return [key for key in node.keys if key is not None]
    if isinstance(node, ast.MatchValue):
        return [node.value]
    return []


def test_nothing_outside_the_families_asks_which_covariance_type_it_has() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "covariances" and str(path.relative_to(PACKAGE)) not in LISTS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for operand in compared_or_looked_up(node)
        for inner in ast.walk(operand)
        if isinstance(inner, ast.Constant) and inner.value in FAMILIES
    ]
    assert found == []


def stack_of(name: str, k: int = 3, d: int = 4) -> tuple[Stack, np.ndarray]:
    """Matrices of a family, and the same (k, d, d)."""
    rng = np.random.default_rng(1)
    covariances = random_mixture(rng, k, d, FAMILIES[name].known_as).covariances
    stack = FAMILIES[name].nearest(covariances, rng.uniform(0.5, 2.0, d))
    return stack, np.array(stack.dense(k))


@EVERY
def test_the_algebra_of_every_stack_is_that_of_its_dense_matrices(name: str) -> None:
    stack, dense = stack_of(name)
    k, d = dense.shape[:2]
    rng = np.random.default_rng(2)
    means, shared = rng.standard_normal((k, d)), FAMILIES[name].shared
    inverses = np.linalg.inv(dense)
    one = slice(0, 1) if shared else slice(None)
    close = {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(stack.log_dets, np.linalg.slogdet(dense)[1][one], **close)
    np.testing.assert_allclose(stack.variances, np.einsum("kii->ki", dense)[one], **close)
    np.testing.assert_allclose(
        stack.precision_traces, np.trace(inverses, axis1=1, axis2=2)[one], **close
    )
    A = rng.standard_normal((d, d))
    assert stack.quadratic_of(A @ A.T) == pytest.approx(np.trace(inverses[0] @ A @ A.T))
    if FAMILIES[name].diagonal:
        alone = stack.quadratic_of(np.diagonal(A @ A.T))
        assert alone == pytest.approx(stack.quadratic_of(A @ A.T))
    some = np.array([2, 0])
    np.testing.assert_allclose(stack.among(some).dense(k), dense[:, some[:, None], some], **close)
    z = rng.standard_normal((5, d))
    np.testing.assert_allclose(stack.whitened(1, stack.coloured(1, z).T).T, z, **close)
    np.testing.assert_allclose(
        stack.coloured(1, np.eye(d)).T @ stack.coloured(1, np.eye(d)), dense[1], **close
    )
    for j in range(k):
        x = rng.standard_normal((d, 5))
        squares = np.einsum("in,ij,jn->n", x, inverses[j], x)
        np.testing.assert_allclose((stack.whitened(j, x) ** 2).sum(axis=0), squares, **close)
    half, whiteners = stack.whiteners(np.arange(k))
    if FAMILIES[name].diagonal:
        whiteners = whiteners[:, :, None] * np.eye(d)
    np.testing.assert_allclose(2 * half, np.linalg.slogdet(dense)[1], **close)
    np.testing.assert_allclose(np.swapaxes(whiteners, 1, 2) @ whiteners, inverses, **close)
    counts, first = rng.uniform(1, 2, k), rng.standard_normal((k, d))
    second = np.array([B @ B.T for B in rng.standard_normal((k, d, d))])
    moments = Moments(counts, first, second, np.zeros((k, d)), np.ones(d), np.eye(d))
    about = (
        second
        - first[:, :, None] * means[:, None, :]
        - means[:, :, None] * first[:, None, :]
        + counts[:, None, None] * means[:, :, None] * means[:, None, :]
    )
    expected = np.einsum("kij,kij->", inverses, about)
    assert stack.quadratic(moments, means, counts.sum()) == pytest.approx(expected, rel=1e-10)


@EVERY
def test_taking_components_and_giving_one_the_others_mean_is_that_of_dense_matrices(
    name: str,
) -> None:
    stack, dense = stack_of(name)
    others = np.array([True, False, True])
    np.testing.assert_allclose(stack.take(others).dense(2), dense[others])
    moved = stack.with_mean_at(1, others).dense(3)
    expected = dense.copy()
    if not FAMILIES[name].shared:
        expected[1] = dense[others].mean(axis=0)
    np.testing.assert_allclose(moved, expected, rtol=1e-12, atol=1e-14)


@EVERY
def test_what_is_written_in_the_shape_of_a_family_is_kept(name: str) -> None:
    _, dense = stack_of(name)
    scale = np.array([0.1, 2.0, 30.0, 1.0])
    stack = FAMILIES[name].nearest(dense, scale)
    written = FAMILIES[name].written(stack, scale)
    assert written.shape == FAMILIES[name].shape(3, 4)
    again = FAMILIES[name].kept(written, scale)
    np.testing.assert_allclose(again.dense(3), stack.dense(3), rtol=1e-14)


@EVERY
def test_what_a_family_reads_is_what_it_was_written_as(name: str) -> None:
    _, dense = stack_of(name)
    scale = np.array([0.1, 2.0, 30.0, 1.0])
    stack = FAMILIES[name].nearest(dense, scale)
    again = FAMILIES[name].read(stack.dense(3) * np.outer(scale, scale), scale)
    np.testing.assert_allclose(again.dense(3), stack.dense(3), rtol=1e-8, atol=1e-10)


@EVERY
def test_a_spike_is_seen_in_the_direction_in_which_it_has_no_width(name: str) -> None:
    every = np.ones(4, dtype=bool)
    stack, _ = stack_of(name)
    least, total = np.full(4, 1e-6), np.diag([9.0, 9.0, 9.0, 9.0])
    assert not stack.thin_in(0, least, total, 1.0, every).any()
    V = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    thin = Dense((V * [1e-9, 1.0, 2.0, 3.0] @ V.T)[None])
    total = V * [7.0, 100.0, 100.0, 100.0] @ V.T
    np.testing.assert_allclose(thin.thin_in(0, least, total, 1e9, every), V[:, 0] ** 2, atol=1e-6)
    assert not thin.thin_in(0, least, total, 1e10, every).any()
