"""What annotators call things -> the classes of a dataset."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from scrapray.errors import ConfigurationError

ANY_OTHER = "*"
"""As an alias, or among the ignored: every name that has no meaning otherwise."""


class ClassNames:
    """Finds the class that a name means; upper and lower case, ``_``, ``-`` and space are the same.

    Args:
        names: The classes. Class ids are positions, from 1; 0 is steel.
        aliases: Other names of a class.
        ignored: Names that mean no class, such as a truck bed that was annotated too.

    Raises:
        ValueError: A name has two meanings.
    """

    def __init__(
        self,
        names: Sequence[str],
        aliases: Mapping[str, Sequence[str]] = MappingProxyType({}),
        ignored: Sequence[str] = (),
    ) -> None:
        self.names = tuple(names)
        self._meaning: dict[str, str | None] = {}
        for name in names:
            for word in (name, *aliases.get(name, ())):
                self._add(word, name)
        for word in ignored:
            self._add(word, None)

    def _add(self, word: str, meaning: str | None) -> None:
        if self._meaning.setdefault(_plain(word), meaning) != meaning:
            raise ValueError(f"the class name {word!r} has two meanings; leave it in one of classes, aliases, ignored")

    def class_id(self, name: str) -> int:
        """The id of a class by its own name."""
        return self.names.index(name) + 1

    def resolve(self, words: Iterable[str], source: str) -> dict[str, str | None]:
        """The class that each word means; None for those that are ignored.

        Raises:
            ConfigurationError: Words that mean nothing here, all of them named.
        """
        words = list(words)
        other = self._meaning.get(ANY_OTHER)
        unknown = sorted({word for word in words if _plain(word) not in self._meaning})
        if unknown and ANY_OTHER not in self._meaning:
            raise ConfigurationError(
                f"{source} has the classes {', '.join(map(repr, unknown))}, which the configuration lacks; add each as "
                f"a class, as an alias of one ({', '.join(self.names)}) or to ignored_classes"
            )
        return {word: self._meaning.get(_plain(word), other) for word in words}


def _plain(word: str) -> str:
    return " ".join(word.replace("_", " ").replace("-", " ").casefold().split())
