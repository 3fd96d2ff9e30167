"""The classes that a segmenter tells apart: steel and the contaminants among it.

Class ids are positions: 0 is steel ("normal"), 1..K are the contaminants in the order of their tuple.
"""

from dataclasses import dataclass

from scrapray.errors import ConfigurationError

STEEL_PROMPT = "object which is made of steel"
"""Text of the normal class. Reference: the scrap paper, section on prompts."""
CONTAMINANT_PROMPT = "object which is not steel but {}"
"""Text of a contaminant; the braces take its name. Reference: as above."""
ANY_CONTAMINANT_PROMPT = "object which is not steel"
"""Text of the two-class reading at test time. Reference: as above."""

MAX_SEVERITY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Contaminant:
    """One class of thing that must not be in the melt.

    Attributes:
        name: The word that stands in prompts and tables, for example ``spray can``.
        definition: What a person would look for, one sentence.
        severity: 1 (lowers the grade) to 3 (stop the truck).
    """

    name: str
    definition: str
    severity: int

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigurationError("contaminant: name is empty; give the word that the prompt should use")
        if not 1 <= self.severity <= MAX_SEVERITY:
            raise ConfigurationError(
                f"contaminant {self.name!r}: severity is {self.severity}, must be 1 to {MAX_SEVERITY}"
            )

    @property
    def prompt(self) -> str:
        """The text that the segmenter is asked for."""
        return CONTAMINANT_PROMPT.format(self.name)


SCRAP_CONTAMINANTS = (
    Contaminant(
        name="motor",
        definition="electric motor, stator or rotor: copper winding in a finned or round housing, often with a shaft",
        severity=2,
    ),
    Contaminant(
        name="cable",
        definition="insulated electric cable or a bundle of it: copper inside plastic",
        severity=1,
    ),
    Contaminant(
        name="spray can",
        definition="aerosol can or other small closed pressure vessel: can explode in the furnace",
        severity=3,
    ),
)
"""The three contaminants of the scrap paper, in its order."""
