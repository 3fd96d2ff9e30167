"""One drawn truck load with exactly known truth.

A load is drawn from the floor up. Each layer of things but the first is what one grab of the crane takes away, so the
states between layers, seen in reverse, are the frames of an unloading: the heap goes down, and what is not taken
away is seen again at the same place.

    stock of parts -> layers dropped into the bed -> after each layer: light, camera, JPEG -> reverse

Shapes: H x W pixels, RGB.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from scrapray.errors import ConfigurationError
from scrapray.imagery import camera as cameras
from scrapray.imagery import lighting, parts
from scrapray.imagery.drawing import Bytes, Flags, Random, pick
from scrapray.imagery.heap import Corners, Heap, Objects
from scrapray.imagery.layers import Loader, draw_stock

FULL_WIDTH_PX = 3840
"""Frames of another width show the same truck in more or fewer pixels."""

_USUAL_SIZE_PX = 95.0
"""Median length of a contaminant or hard negative in a 4K frame."""
_SEEN_SHARE = 0.4
"""Share of a contaminant's outline that shows, over the frames of a load; measured, sets how many are put in."""
_FILL = {"motor": 0.5, "cable": 0.14, "spray can": 0.26}
"""Area of a contaminant, in shares of its length squared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneSettings:
    """What loads are drawn like.

    Attributes:
        width_px: Width of a frame.
        height_px: Height of a frame.
        num_frames: Frames of a load.
        contaminated_share: Share of loads that hold contaminants, 0 to 1.
        contamination_frac: Contaminated share of the visible bed in those loads, on average; 0.0014 in one half of
            the loads makes the 0.07 % of the paper's data over all of them.
        size_px: Shortest and longest contaminant in a 4K frame.
        num_parts: Different parts of steel in a load; each is met again and again, turned and scaled.
    """

    width_px: int = FULL_WIDTH_PX
    height_px: int = 2160
    num_frames: int = 6
    contaminated_share: float = 0.5
    contamination_frac: float = 0.0014
    size_px: tuple[float, float] = (15.0, 400.0)
    num_parts: int = 100

    def __post_init__(self) -> None:
        if min(self.width_px, self.height_px) < 64:
            raise ConfigurationError(f"scene: {self.width_px} x {self.height_px} px is too small; 64 px is the least")
        if self.num_frames < 1:
            raise ConfigurationError(f"scene: num_frames is {self.num_frames}, must be 1 or more")
        if not 0 <= self.contaminated_share <= 1:
            raise ConfigurationError(f"scene: contaminated_share is {self.contaminated_share}, must be 0 to 1")
        if not 0 < self.contamination_frac <= 0.1:
            raise ConfigurationError(f"scene: contamination_frac is {self.contamination_frac}, must be above 0 to 0.1")
        if self.num_parts < 1:
            raise ConfigurationError(f"scene: num_parts is {self.num_parts}, must be 1 or more")
        if not 0 < self.size_px[0] < self.size_px[1]:
            raise ConfigurationError(f"scene: size_px is {self.size_px}, must be a shortest and a longest length")

    @property
    def scale(self) -> float:
        """Resolution in shares of 4K."""
        return self.width_px / FULL_WIDTH_PX

    @property
    def bed_polygon_px(self) -> Corners:
        """The truck bed in the camera's frame, clockwise: what ``audit.toml`` says. Trucks park a little wider."""
        shares = ((0.070, 0.135), (0.935, 0.125), (0.938, 0.880), (0.068, 0.872))
        return tuple((round(x * self.width_px), round(y * self.height_px)) for x, y in shares)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnFrame:
    """One frame and its masks.

    Attributes:
        jpeg: The file that the camera wrote.
        object_HW: Number of the thing that shows at each pixel, uint16; 0 is truck and ground.
        class_of_object: Class index per thing: 0 steel, 1..K as in ``parts.CONTAMINANTS``.
    """

    jpeg: bytes
    object_HW: Objects
    class_of_object: Bytes

    @property
    def image_HW3(self) -> Bytes:  # noqa: N802 (shape suffix)
        """The picture, RGB, uint8, as the JPEG gives it back."""
        return cameras.develop(self.jpeg)

    @property
    def class_HW(self) -> Bytes:  # noqa: N802 (shape suffix)
        """Class index per pixel, uint8."""
        return self.class_of_object[self.object_HW]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnObject:
    """A contaminant or a hard negative, and what was seen of it.

    Attributes:
        object_id: Its number in ``DrawnFrame.object_HW``.
        name: For example ``motor`` or ``gearbox``.
        class_index: 0 for hard negatives, else 1..K.
        size_px: Its longest visible extent in any frame; 0 when it never shows.
        area_px: Its visible area in each frame, within the bed.
    """

    object_id: int
    name: str
    class_index: int
    size_px: float
    area_px: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnLoad:
    """The frames of one unloading, in order of time, and the truth.

    Attributes:
        frames: The frames.
        objects: Contaminants and hard negatives.
        bed_area_px: Visible bed, the same in each frame.
    """

    frames: tuple[DrawnFrame, ...]
    objects: tuple[DrawnObject, ...]
    bed_area_px: int

    @property
    def contamination_per_frame(self) -> tuple[float, ...]:
        """Contaminated share of the visible bed in each frame."""
        areas = [thing.area_px for thing in self.objects if thing.class_index]
        return tuple(sum(area[frame] for area in areas) / self.bed_area_px for frame in range(len(self.frames)))

    @property
    def contamination_frac(self) -> float:
        """Contaminated share of the visible bed over all frames together."""
        return sum(self.contamination_per_frame) / len(self.frames)


def draw_load(seed: int, settings: SceneSettings | None = None) -> DrawnLoad:
    """Draw the frames of one truck load.

    Args:
        seed: The same seed and settings draw the same bytes.
        settings: What loads are drawn like; 4K loads of six frames by default.

    Returns:
        Frames in order of time and the truth about them.
    """
    settings = settings or SceneSettings()
    rng = np.random.default_rng((seed, 0))
    shape_hw, scale = (settings.height_px, settings.width_px), settings.scale
    bed_xy = settings.bed_polygon_px
    heap = Heap(rng, shape_hw, _parked(rng, bed_xy, scale), scale)
    loader = Loader(rng, heap, draw_stock(rng, scale, settings.num_parts), bed_xy)
    layers: list[list[tuple[str, float]]] = [[] for _ in range(settings.num_frames)]
    for name, length in _choose_specials(rng, settings):
        layers[rng.integers(settings.num_frames)].append((name, length))
    light, camera = lighting.random_light(rng), cameras.random_camera(rng, scale)
    shots: list[tuple[bytes, Objects]] = []
    for number, specials in enumerate(layers):
        add_layer = loader.add_grab if number else loader.add_floor
        add_layer(specials)
        shots.append(shoot(rng, heap, light, camera, scale))
    classes = loader.class_of_object()
    frames = tuple(DrawnFrame(jpeg=jpeg, object_HW=found, class_of_object=classes) for jpeg, found in reversed(shots))
    bed_HW = _polygon_mask(shape_hw, bed_xy)
    return DrawnLoad(frames=frames, objects=_truth(frames, loader.specials, bed_HW), bed_area_px=int(bed_HW.sum()))


def _choose_specials(rng: Random, settings: SceneSettings) -> list[tuple[str, float]]:
    """Names and lengths of hard negatives and, if this load has any, of contaminants.

    Contaminants are put in until they should show as much as this load's share of the bed; none may show more than
    twice what is left of it.
    """
    negatives = [(pick(rng, parts.HARD_NEGATIVES), random_size(rng, settings)) for _ in range(rng.poisson(6))]
    if rng.random() >= settings.contaminated_share:
        return negatives
    low, high = np.min(settings.bed_polygon_px, 0), np.max(settings.bed_polygon_px, 0)
    budget = settings.contamination_frac * float((high - low).prod()) * rng.lognormal(-0.18, 0.6)
    found: list[tuple[str, float]] = []
    while budget > 0:
        name = pick(rng, parts.CONTAMINANTS)
        largest = (2 * budget / (_SEEN_SHARE * _FILL[name])) ** 0.5
        length = max(min(random_size(rng, settings), largest), settings.size_px[0] * settings.scale)
        found.append((name, length))
        budget -= _SEEN_SHARE * _FILL[name] * length**2
    return found + negatives


def random_size(rng: Random, settings: SceneSettings) -> float:
    """Length of a contaminant or hard negative in this picture, px."""
    shortest, longest = settings.size_px
    return float(np.clip(_USUAL_SIZE_PX * rng.lognormal(0, 0.6), shortest, longest)) * settings.scale


def _parked(rng: Random, bed_xy: Corners, scale: float) -> Corners:
    """Where this truck's bed really is: around what the camera is told, by the width of a hand."""
    middle = np.mean(bed_xy, 0)
    out = np.sign(np.asarray(bed_xy) - middle)
    corners = np.asarray(bed_xy) + out * rng.uniform(8, 26, (len(bed_xy), 2)) * scale
    return [(float(x), float(y)) for x, y in corners]


def shoot(
    rng: Random, heap: Heap, light: lighting.Light, camera: cameras.Camera, scale: float
) -> tuple[bytes, Objects]:
    """Photograph the heap as it is now; things are found where the shaken camera sees them."""
    look = cameras.shake(rng, camera, heap.height_HW.shape)
    lit_HW3 = lighting.shade(heap.rgb_HW3, heap.height_HW, heap.gloss_HW, light)
    jpeg = cameras.expose(rng, camera, cameras.see(look, lit_HW3))
    return jpeg, cameras.see_objects(look, heap.object_HW)


def _polygon_mask(shape_hw: tuple[int, int], corners_xy: Corners) -> Flags:
    mask = np.zeros(shape_hw, np.uint8)
    cv2.fillPoly(mask, [np.round(corners_xy).astype(np.int32)], 1)
    return mask.astype(bool)


def _truth(frames: tuple[DrawnFrame, ...], specials: list[tuple[int, str]], bed_HW: Flags) -> tuple[DrawnObject, ...]:
    """What is seen of each special thing, frame by frame."""
    areas = np.stack([np.bincount(frame.object_HW[bed_HW], minlength=len(frame.class_of_object)) for frame in frames])
    return tuple(
        DrawnObject(
            object_id=number,
            name=name,
            class_index=int(frames[0].class_of_object[number]),
            size_px=max(
                (
                    _extent(frame.object_HW, bed_HW, number)
                    for frame, area in zip(frames, areas, strict=True)
                    if area[number]
                ),
                default=0.0,
            ),
            area_px=tuple(int(area[number]) for area in areas),
        )
        for number, name in specials
    )


def _extent(object_HW: Objects, bed_HW: Flags, number: int) -> float:
    """Longest side of the smallest rectangle, turned as it may be, around what shows of a thing."""
    points = np.argwhere((object_HW == number) & bed_HW)[:, ::-1].astype(np.float32)
    return max(cv2.minAreaRect(points)[1]) + 1.0
