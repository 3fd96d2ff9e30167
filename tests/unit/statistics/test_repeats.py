import numpy as np
import pytest

from scrapray.statistics.repeats import Look, Repeat, find_repeats
from tests.unit.statistics.frames import at

SCENE = np.random.default_rng(0).integers(5, 250, size=256)


def exposure(seed, noise=1.5):
    """A small grey picture of the same scene with its own sensor noise."""
    return (SCENE + np.random.default_rng(seed).normal(0, noise, size=256)).round().astype(np.uint8).tobytes()


PICTURE = exposure(0)


def look(name, *, second=None, sha=None, thumbnail=None, camera="north", load="L1"):
    return Look(
        frame_id=name,
        load_key=None if load is None else ("yard", load),
        camera_key=None if camera is None else ("yard", camera),
        taken_utc=None if second is None else at(second),
        content_sha256=sha or name,
        thumbnail=thumbnail,
    )


def repeats(*looks):
    return find_repeats(looks, max_difference=0.002)


def test_the_same_bytes_while_the_clock_moves_on_are_a_frozen_camera():
    found = repeats(look("a", second=0, sha="s"), look("b", second=5, sha="s"), look("c", second=10, sha="s"))
    assert found == {"b": Repeat("frozen", "same_bytes", "a"), "c": Repeat("frozen", "same_bytes", "a")}


def test_the_same_bytes_at_the_same_moment_are_one_frame_stored_twice():
    assert repeats(look("a", second=0, sha="s"), look("b", second=0, sha="s")) == {
        "b": Repeat("duplicate", "same_bytes", "a")
    }


def test_the_same_bytes_under_two_cameras_of_a_load_are_a_duplicate():
    found = repeats(look("a", second=0, sha="s"), look("b", second=5, sha="s", camera="south"))
    assert found["b"].stage == "duplicate"


def test_the_same_bytes_of_another_camera_and_load_are_left_alone():
    assert repeats(look("a", second=0, sha="s"), look("b", second=5, sha="s", camera="south", load="L2")) == {}


def test_a_camera_frozen_over_two_loads_is_found_in_the_second():
    assert repeats(look("a", second=0, sha="s"), look("b", second=900, sha="s", load="L2"))["b"].stage == "frozen"


def test_a_picture_encoded_anew_is_frozen():
    encoded_anew = (np.frombuffer(PICTURE, np.uint8) + (np.arange(256) % 5 == 0)).astype(np.uint8).tobytes()
    found = repeats(look("a", second=0, thumbnail=PICTURE), look("b", second=5, thumbnail=encoded_anew))
    assert found == {"b": Repeat("frozen", "same_picture", "a")}


@pytest.mark.parametrize("noise", [0.75, 1.5, 4])
def test_a_heap_that_stands_still_is_not_frozen(noise):
    exposures = [look(str(i), second=i, thumbnail=exposure(i, noise)) for i in range(9)]
    assert repeats(*exposures) == {}


def test_a_picture_is_compared_with_the_frame_before_it_only():
    looks = [look("a", second=0, thumbnail=PICTURE), look("b", second=5, thumbnail=exposure(1))]
    assert repeats(*looks, look("c", second=10, thumbnail=PICTURE)) == {}


@pytest.mark.parametrize("thumbnail", [None, PICTURE[:100]])
def test_what_was_not_measured_is_not_called_a_repeat(thumbnail):
    assert repeats(look("a", second=0, thumbnail=PICTURE), look("b", second=5, thumbnail=thumbnail)) == {}


def test_a_repeat_of_a_repeat_names_the_first_frame():
    found = repeats(
        look("a", second=0, thumbnail=PICTURE),
        look("b", second=5, thumbnail=PICTURE, sha="s"),
        look("c", second=10, sha="s"),
    )
    assert {name: each.of for name, each in found.items()} == {"b": "a", "c": "a"}


def test_the_order_of_rows_does_not_matter():
    looks = [look(name, second=second, sha="s") for name, second in (("a", 0), ("b", 5), ("c", 10))]
    assert repeats(*looks) == repeats(*reversed(looks))


def test_without_camera_and_load_nothing_is_compared():
    lone = {"camera": None, "load": None, "sha": "s"}
    assert repeats(look("a", second=0, **lone), look("b", second=5, **lone)) == {}
