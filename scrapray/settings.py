"""What every section of a file of settings is made with: unknown keys refused by name, values checked as it is made."""

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""What every section of a file of settings has as its ``__pydantic_config__``: unknown keys, NaN and infinity are
refused."""


def require(holds: bool, message: str) -> None:
    """Refuse a value while a section is made; ``read_settings`` adds the file and the section to the message."""
    if not holds:
        raise ValueError(message)
