from collections.abc import Iterator

import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits

# The same examples on every run and machine; a noisy machine is no failure.
settings.register_profile("sparkgmm", deadline=None, derandomize=True, database=None)
settings.load_profile("sparkgmm")


@pytest.fixture(autouse=True, scope="package")
def one_blas_thread() -> Iterator[None]:
    """Keep the many small products from waiting for threads on a busy machine."""
    with threadpool_limits(1, user_api="blas"):
        yield
