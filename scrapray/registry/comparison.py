"""What is known of two versions when one is to take the place of the other."""

from collections.abc import Mapping
from dataclasses import dataclass

from scrapray.statistics.promotion import Comparison, SplitStatistics


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """What versions scored on the test split of one dataset, apart from what lies in their bundles.

    Attributes:
        dataset: Its URI.
        statistics: By number of the version.
    """

    dataset: str
    statistics: Mapping[int, SplitStatistics]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionComparison:
    """A version held against the champion.

    Attributes:
        candidate: Number of the version.
        champion: That of the champion.
        dataset: Whose test split both were measured on for this; None where what counts was measured when they were
            trained.
        result: Class by class; None where they cannot be compared.
        objections: What speaks against the candidate, with numbers; or why they cannot be compared. None if it may be
            promoted.
    """

    candidate: int
    champion: int
    dataset: str | None
    result: Comparison | None
    objections: tuple[str, ...]

    @property
    def is_accepted(self) -> bool:
        """Whether nothing speaks against the candidate."""
        return not self.objections

    def notes(self) -> dict[str, str]:
        """Tags that say what was compared, and where."""
        notes = {"compared_on": self.dataset} if self.dataset else {}
        if self.result:
            notes |= {
                "compared": f"AP {self.result.candidate_ap:.4f}, that of version {self.champion} "
                f"{self.result.champion_ap:.4f}",
                "compared_split": self.result.split_sha256,
                "max_recall_drop": f"{self.result.max_recall_drop:g}",
            }
        return notes
