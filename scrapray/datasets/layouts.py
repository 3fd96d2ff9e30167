"""Folders whose mask files say what was annotated -> annotated frames.

    <any>/frame.jpg + <any>/frame.png              masks beside pictures, values are class indexes; drawn scenes too
    train/good  test/good  test/<defect>           MVTec-AD, with ground_truth/<defect>/<picture>_mask.png
    Data/Images/Normal  Data/Images/Anomaly        VisA, with Data/Masks/Anomaly/<picture>.png

No file is opened here: masks are read where the pictures are, many at a time.

Reference: MVTec AD, https://www.mvtec.com/company/research/datasets/mvtec-ad; VisA,
https://github.com/amazon-science/spot-diff
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from mimetypes import guess_type
from pathlib import PurePosixPath
from typing import NamedTuple

from scrapray.datasets.annotations import Annotations, Skipped
from scrapray.datasets.classes import ClassNames
from scrapray.keys import KeyGrammar
from scrapray.storage import StoredObject

MASK_SUFFIX = ".png"
_GOOD = "good"


def read_mask_pngs(
    stored: Iterable[StoredObject], *, suffixes: Sequence[str], grammar: KeyGrammar | None
) -> Annotations:
    """Pictures with a PNG of the same name beside each, whose values are class indexes.

    Args:
        stored: Everything in the archive.
        suffixes: Endings of pictures, in lower case; a PNG is always a mask.
        grammar: What keys mean; None for pictures that belong to no load.
    """
    found = Annotations()
    pictures: list[StoredObject] = []
    masks: dict[str, list[StoredObject]] = defaultdict(list)
    for one in sorted(stored, key=lambda one: one.key):
        if one.key.lower().endswith(MASK_SUFFIX):
            masks[_stem(one.key)].append(one)
        elif one.key.lower().endswith(tuple(suffixes)):
            pictures.append(one)
        elif _is_picture(one.key):
            found.skipped.append(Skipped(picture=one.uri, stage="picture", reason="other_suffix"))
    for picture in pictures:
        match masks.get(_stem(picture.key), []):
            case [mask]:
                found.add(picture, grammar, mask_uri=mask.uri, mask_etag=mask.etag)
            case []:
                found.skipped.append(Skipped(picture=picture.uri, stage="picture", reason="mask_not_found"))
            case several:
                detail = ", ".join(mask.key for mask in several)
                found.skipped.append(
                    Skipped(picture=picture.uri, stage="picture", reason="ambiguous_mask", detail=detail)
                )
    with_picture = {_stem(picture.key) for picture in pictures}
    found.skipped.extend(_without_picture(mask) for stem in masks if stem not in with_picture for mask in masks[stem])
    return found


class _Picture(NamedTuple):
    """What its place says of a picture: its defect, if it has one, and the key of the mask that it then has."""

    defect: str | None
    mask_key: str


_MASK = "mask"


def read_mvtec(
    stored: Iterable[StoredObject], *, suffixes: Sequence[str], source: str, classes: ClassNames
) -> Annotations:
    """Pictures in the folders of MVTec-AD, one category or several below each other.

    The layout knows no loads, so its frames have no identity beyond their key, and its own parting into train and test
    is not ours: all defects are in its test.

    Args:
        stored: Everything in the archive.
        suffixes: Endings of pictures, in lower case.
        source: Name of the archive, for messages.
        classes: What names of defects mean.

    Raises:
        ConfigurationError: There is a defect that the configuration lacks.
    """
    return _read_defects(stored, _place_in_mvtec, suffixes, source, classes)


def _place_in_mvtec(path: PurePosixPath) -> _Picture | str | None:
    match path.parts:
        case [*_, "ground_truth", _, _] if path.suffix.lower() == MASK_SUFFIX:
            return _MASK
        case [*above, "train" | "test", defect, _]:
            mask = PurePosixPath(*above, "ground_truth", defect, f"{path.stem}_mask{MASK_SUFFIX}")
            return _Picture(None if defect == _GOOD else defect, str(mask))
        case _:
            return None


def read_visa(
    stored: Iterable[StoredObject], *, suffixes: Sequence[str], source: str, classes: ClassNames
) -> Annotations:
    """Pictures in the folders of VisA, one object or several below each other.

    Its masks do not say which defect is where, so all are the class that ``anomaly`` means. The rest is as for
    ``read_mvtec``.
    """
    return _read_defects(stored, _place_in_visa, suffixes, source, classes)


def _place_in_visa(path: PurePosixPath) -> _Picture | str | None:
    match path.parts:
        case [*_, "Data", "Masks", "Anomaly", _] if path.suffix.lower() == MASK_SUFFIX:
            return _MASK
        case [*above, "Data", "Images", "Normal" | "Anomaly" as kind, _]:
            mask = PurePosixPath(*above, "Data", "Masks", "Anomaly", f"{path.stem}{MASK_SUFFIX}")
            return _Picture("anomaly" if kind == "Anomaly" else None, str(mask))
        case _:
            return None


def _read_defects(
    stored: Iterable[StoredObject],
    place_of: Callable[[PurePosixPath], _Picture | str | None],
    suffixes: Sequence[str],
    source: str,
    classes: ClassNames,
) -> Annotations:
    """Pictures whose folders say whether they have a defect, with a mask for each that has one."""
    found = Annotations()
    pictures: list[tuple[StoredObject, _Picture]] = []
    masks: dict[str, StoredObject] = {}
    for one in sorted(stored, key=lambda one: one.key):
        place = place_of(PurePosixPath(one.key))
        if place == _MASK:
            masks[one.key] = one
        elif not one.key.lower().endswith(tuple(suffixes)):
            if _is_picture(one.key):
                found.skipped.append(Skipped(picture=one.uri, stage="picture", reason="other_suffix"))
        elif isinstance(place, _Picture):
            pictures.append((one, place))
        else:
            found.skipped.append(Skipped(picture=one.uri, stage="picture", reason="other_folder"))
    class_of = classes.resolve({place.defect for _, place in pictures if place.defect}, source)
    for picture, place in pictures:
        mask = masks.pop(place.mask_key, None) if place.defect else None
        if place.defect is None:
            found.add(picture, None)
        elif class_of[place.defect] is None:
            found.skipped.append(
                Skipped(picture=picture.uri, stage="picture", reason="ignored_class", detail=place.defect)
            )
        elif mask is None:
            found.skipped.append(Skipped(picture=picture.uri, stage="picture", reason="mask_not_found"))
        else:
            found.add(picture, None, mask_uri=mask.uri, mask_etag=mask.etag, mask_class=class_of[place.defect])
    found.skipped.extend(map(_without_picture, masks.values()))
    return found


def _is_picture(key: str) -> bool:
    """Whether a file's name says that it is a picture, of whatever kind."""
    return (guess_type(key)[0] or "").startswith("image/")


def _stem(key: str) -> str:
    return str(PurePosixPath(key).with_suffix(""))


def _without_picture(mask: StoredObject) -> Skipped:
    return Skipped(picture=mask.uri, stage="mask", reason="picture_not_found")
