from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from scrapray.config import QualityConfig
from scrapray.imagery.decode import decode_frame
from scrapray.imagery.quality import FrameQuality, hidden_frac, judge_quality, measure_quality

WHOLE_HW = np.ones((540, 960), np.bool_)
NOT_OF_ONE_FRAME = ("max_pixels", "min_frozen_difference")
LIMITS = {name: value for name, value in asdict(QualityConfig()).items() if name not in NOT_OF_ONE_FRAME}


def judged(frame_HW3: NDArray[np.uint8], bed_HW: NDArray[np.bool_] = WHOLE_HW) -> str | None:
    return judge_quality(measure_quality(frame_HW3, bed_HW), **LIMITS)


@pytest.fixture(scope="module")
def scrap() -> NDArray[np.uint8]:
    """Something with detail at all scales and little colour, as scrap has."""
    rng = np.random.default_rng(0)
    frame_HW3 = np.full((540, 960, 3), 120.0)
    for side in (4, 8, 16, 32, 64):
        shape = (540 // side + 1, 960 // side + 1, 1)
        grey = rng.normal(0, 18, shape).repeat(side, 0).repeat(side, 1)[:540, :960]
        frame_HW3 += grey + rng.normal(0, 3, (*shape[:2], 3)).repeat(side, 0).repeat(side, 1)[:540, :960]
    return cv2.GaussianBlur(frame_HW3.clip(0, 255).astype(np.uint8), (0, 0), 0.6)


def test_a_good_frame_keeps_all_limits(scrap: NDArray[np.uint8]) -> None:
    assert judged(scrap) is None


def test_each_fault_has_its_reason(scrap: NDArray[np.uint8]) -> None:
    magenta = scrap * np.array([1.0, 0.45, 0.9])
    assert judged(np.zeros_like(scrap)) == "too_dark"
    assert judged((scrap * 0.03).astype(np.uint8)) == "too_dark"
    assert judged(np.full_like(scrap, 255)) == "too_bright"
    assert judged((scrap.astype(np.float32) * 1.2 + 130).clip(0, 255).astype(np.uint8)) == "too_bright"
    assert judged(magenta.astype(np.uint8)) == "color_fault"
    assert judged(cv2.GaussianBlur(scrap, (0, 0), 4)) == "blurred"
    assert judged(np.full_like(scrap, 120)) == "blurred"


def test_colourful_things_are_no_colour_fault(scrap: NDArray[np.uint8]) -> None:
    half = scrap.copy()
    half[:, :700] = half[:, :700] * np.array([1.0, 0.3, 0.2])
    assert judged(half) is None


def test_the_highest_limit_lets_every_tint_pass() -> None:
    blue_HW3 = np.full((540, 960, 3), (0, 0, 255), np.uint8)
    quality = measure_quality(blue_HW3, WHOLE_HW)
    assert quality.color_cast > 1
    assert judge_quality(quality, **LIMITS) == "color_fault"
    assert judge_quality(quality, **(LIMITS | {"max_color_cast": 1.0, "min_sharpness": 0.0})) is None


def test_only_the_bed_is_measured(scrap: NDArray[np.uint8]) -> None:
    bed_HW = np.zeros_like(WHOLE_HW)
    bed_HW[100:400, 200:800] = True
    dark_around = scrap * bed_HW[:, :, None]
    inside, whole = measure_quality(dark_around, bed_HW), measure_quality(dark_around, WHOLE_HW)
    assert inside.dark_frac < 0.01 < whole.dark_frac
    assert inside.thumbnail == measure_quality(scrap, bed_HW).thumbnail


def test_size_changes_brightness_and_cast_but_little(scrap: NDArray[np.uint8]) -> None:
    doubled = scrap.repeat(4, axis=0).repeat(4, axis=1)
    small, large = measure_quality(scrap, WHOLE_HW), measure_quality(doubled, np.ones((2160, 3840), np.bool_))
    assert large.brightness == pytest.approx(small.brightness, abs=0.01)
    assert large.color_cast == pytest.approx(small.color_cast, abs=0.01)


def test_a_bed_of_one_pixel_can_be_measured(scrap: NDArray[np.uint8]) -> None:
    bed_HW = np.zeros_like(WHOLE_HW)
    bed_HW[250, 300] = True
    quality = measure_quality(scrap, bed_HW)
    assert quality.brightness == pytest.approx(scrap[250, 300].mean() / 255, abs=0.05)


def test_noise_changes_the_thumbnail_and_a_repeated_picture_does_not(scrap: NDArray[np.uint8]) -> None:
    noise = np.random.default_rng(1).normal(0, 2, scrap.shape)
    again = (scrap + noise).clip(0, 255).astype(np.uint8)
    first, second = (
        np.frombuffer(measure_quality(frame, WHOLE_HW).thumbnail, np.uint8).astype(int) for frame in (scrap, again)
    )
    assert first.size == 256
    assert measure_quality(scrap.copy(), WHOLE_HW).thumbnail == measure_quality(scrap, WHOLE_HW).thumbnail
    assert np.abs(first - second).mean() / 255 > QualityConfig().min_frozen_difference


def test_light_is_named_before_sharpness() -> None:
    quality = FrameQuality(sharpness=0.0, brightness=0.5, dark_frac=0.0, bright_frac=0.0, color_cast=0.0, thumbnail=b"")
    assert judge_quality(quality, **LIMITS) == "blurred"
    assert judge_quality(replace(quality, brightness=0.01), **LIMITS) == "too_dark"


def test_real_frames_with_a_colour_fault_are_found_and_all_others_stay(shared: Path) -> None:
    faulty = {"045969", "046126", "046146", "046151"}
    for path in sorted((shared / "data" / "railcar").glob("*.jpg")):
        frame_HW3 = decode_frame(path.read_bytes(), 10_000_000)
        reason = judged(frame_HW3, np.ones(frame_HW3.shape[:2], np.bool_))
        is_faulty = any(f"pick-{pick}_cam-Pr9Pos" in path.name for pick in faulty)
        assert reason == ("color_fault" if is_faulty else None), path.name


def test_what_is_hidden_is_measured_as_in_the_whole_bed(scrap: NDArray[np.uint8]) -> None:
    frame_HW3 = scrap.repeat(4, 0).repeat(4, 1)
    frame_HW3[:300], frame_HW3[300:400] = 0, 255
    some_HW = np.zeros(frame_HW3.shape[:2], np.bool_)
    some_HW[200:600, 1000:1400] = True
    assert hidden_frac(frame_HW3, some_HW) == pytest.approx(0.5, abs=0.01)
    quality = measure_quality(frame_HW3, some_HW)
    assert hidden_frac(frame_HW3, some_HW) == pytest.approx(quality.dark_frac + quality.bright_frac)
