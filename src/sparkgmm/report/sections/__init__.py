"""The sections of a run's report, in their order: a new one is a module and an entry here."""

from __future__ import annotations

from sparkgmm.report.sections import (
    beside,
    changes,
    choice,
    components,
    convergence,
    facts,
    membership,
    missing,
    rows,
    strangest,
)
from sparkgmm.report.sections.section import Section

SECTIONS: tuple[Section, ...] = (
    rows.SECTION,
    choice.SECTION,
    components.SECTION,
    beside.SECTION,
    missing.SECTION,
    changes.SECTION,
    membership.SECTION,
    strangest.SECTION,
    convergence.SECTION,
    facts.DATA,
    facts.RUN,
)
