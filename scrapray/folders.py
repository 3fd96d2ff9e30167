"""Folders of this machine, as commands take them."""

from pathlib import Path

from scrapray.errors import ConfigurationError


def local_folder(text: str) -> Path:
    """A folder of this machine.

    Raises:
        ConfigurationError: The text is a URI, which would become a folder with that name.
    """
    if "://" in text:
        raise ConfigurationError(f"{text} is no folder of this machine, which is needed here; give one without ://")
    return Path(text)
