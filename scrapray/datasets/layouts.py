"""Folders whose mask files say what was annotated -> annotated frames.

    <any>/frame.jpg + <any>/frame.png              masks beside pictures, values are class indexes; drawn scenes too
    train/good  test/good  test/<defect>           MVTec-AD, with ground_truth/<defect>/<picture>_mask.png

No file is opened here: masks are read where the pictures are, many at a time.

Reference: MVTec AD, https://www.mvtec.com/company/research/datasets/mvtec-ad
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from mimetypes import guess_type
from pathlib import PurePosixPath

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
    found = Annotations()
    pictures, masks = [], {}
    for one in sorted(stored, key=lambda one: one.key):
        match PurePosixPath(one.key).parts:
            case [*_, "ground_truth", _, _] if one.key.lower().endswith(MASK_SUFFIX):
                masks[one.key] = one
            case _ if not one.key.lower().endswith(tuple(suffixes)):
                if _is_picture(one.key):
                    found.skipped.append(Skipped(picture=one.uri, stage="picture", reason="other_suffix"))
            case [*_, "train" | "test", defect, _]:
                pictures.append((one, defect))
            case _:
                found.skipped.append(Skipped(picture=one.uri, stage="picture", reason="other_folder"))
    class_of = classes.resolve({defect for _, defect in pictures} - {_GOOD}, source)
    for picture, defect in pictures:
        mask = masks.pop(_mvtec_mask_key(picture.key), None)
        if defect == _GOOD:
            found.add(picture, None)
        elif class_of[defect] is None:
            found.skipped.append(Skipped(picture=picture.uri, stage="picture", reason="ignored_class", detail=defect))
        elif mask is None:
            found.skipped.append(Skipped(picture=picture.uri, stage="picture", reason="mask_not_found"))
        else:
            found.add(picture, None, mask_uri=mask.uri, mask_etag=mask.etag, mask_class=class_of[defect])
    found.skipped.extend(map(_without_picture, masks.values()))
    return found


def _mvtec_mask_key(key: str) -> str:
    path = PurePosixPath(key)
    *above, _, defect, _ = path.parts
    return str(PurePosixPath(*above, "ground_truth", defect, f"{path.stem}_mask{MASK_SUFFIX}"))


def _is_picture(key: str) -> bool:
    """Whether a file's name says that it is a picture, of whatever kind."""
    return (guess_type(key)[0] or "").startswith("image/")


def _stem(key: str) -> str:
    return str(PurePosixPath(key).with_suffix(""))


def _without_picture(mask: StoredObject) -> Skipped:
    return Skipped(picture=mask.uri, stage="mask", reason="picture_not_found")
