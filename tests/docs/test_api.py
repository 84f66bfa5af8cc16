"""The API reference is the docstrings: every public name has one, with what it takes and raises."""

from __future__ import annotations

import inspect
import re

import pytest

import sparkgmm

CALLABLES = [name for name in sparkgmm.__all__ if not name.startswith("_")]


def sections(name: str) -> dict[str, str]:
    """Return the sections of a docstring by their headings, as numpydoc underlines them."""
    parts = re.split(
        r"^(\w[\w ]*)\n-+\n", inspect.getdoc(getattr(sparkgmm, name)) or "", flags=re.M
    )
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", CALLABLES)
def test_every_public_name_is_described(name: str) -> None:
    described = getattr(sparkgmm, name).__doc__ or ""
    assert re.match(r"[A-Z`].*[.:]$", described.splitlines()[0])


def test_what_fit_array_raises_is_in_its_own_section() -> None:
    raises = sections("fit_array")["Raises"]
    assert re.findall(r"^(\w+)$", raises, re.M) == ["InputError", "FitError"]


def test_every_parameter_of_fit_array_is_described() -> None:
    taken = list(inspect.signature(sparkgmm.fit_array).parameters)
    described = re.findall(r"^([\w, ]+) :", sections("fit_array")["Parameters"], re.M)
    assert ", ".join(described).split(", ") == taken
