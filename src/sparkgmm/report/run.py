"""What the report of a run is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparkgmm.core.profile import Profile
from sparkgmm.core.sample import Membership, Sample
from sparkgmm.core.selection import Candidate
from sparkgmm.mixture import Mixture
from sparkgmm.report.past_runs import PastRuns


@dataclass(frozen=True)
class Run:
    """All that a report says of a run; the rows come as a bounded sample.

    `column_cautions` say which features are odd ones to have: ids, labels, of few values.
    """

    chosen: Candidate
    candidates: Sequence[Candidate]
    profile: Profile
    membership: Membership
    metrics: Mapping[str, Any]
    manifest: Mapping[str, Any]
    past: PastRuns | None = None
    column_cautions: Sequence[str] = ()

    @property
    def mixture(self) -> Mixture:
        """The mixture chosen."""
        return self.chosen.mixture

    @property
    def sample(self) -> Sample:
        """The rows to draw."""
        return self.membership.sample

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The configuration of the run, all keys with their values."""
        configuration: Mapping[str, Any] = self.manifest["configuration"]
        return configuration

    @property
    def criterion(self) -> str:
        """The criterion that chose: bic, aic or icl."""
        return str(self.configuration["model"]["criterion"])
