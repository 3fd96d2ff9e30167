import dataclasses

import numpy as np
import pytest

from scrapray.statistics.repeats import Look, Repeat, find_repeats
from tests.unit.statistics.frames import at

PICTURE = np.random.default_rng(0).integers(0, 255, size=300).astype(np.uint8).tobytes()


def look(name, *, second=None, sha=None, thumbnail=PICTURE, measures=None, camera="north", load="L1"):
    return Look(
        frame_id=name,
        load_key=None if load is None else ("yard", load),
        camera_key=None if camera is None else ("yard", camera),
        taken_utc=None if second is None else at(second),
        content_sha256=sha or name,
        thumbnail=thumbnail,
        measures=(hash(name) / 1e19,) if measures is None else measures,
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


def test_a_picture_written_anew_without_new_noise_is_frozen():
    found = repeats(look("a", second=0, measures=(0.4, 12.5)), look("b", second=5, measures=(0.4, 12.5)))
    assert found == {"b": Repeat("frozen", "same_picture", "a")}


def test_a_heap_that_stands_still_is_not_frozen():
    still = look("a", second=0, measures=(0.4, 12.5))
    noise_of_the_next_exposure = dataclasses.replace(look("b", second=5), measures=(0.4, 12.5000001))
    assert repeats(still, noise_of_the_next_exposure) == {}


def test_equal_measures_of_different_pictures_mean_nothing():
    other = np.full(300, 90, dtype=np.uint8).tobytes()
    assert repeats(look("a", second=0, measures=(0.4,)), look("b", second=5, measures=(0.4,), thumbnail=other)) == {}


@pytest.mark.parametrize("change", [{"thumbnail": None}, {"thumbnail": PICTURE[:100]}, {"measures": (None,)}])
def test_what_was_not_measured_is_not_called_a_repeat(change):
    one = look("a", second=0, **{"measures": (0.4,), **change})
    assert repeats(one, look("b", second=5, measures=change.get("measures", (0.4,)))) == {}


def test_a_repeat_of_a_repeat_names_the_first_frame():
    same = (0.4,)
    found = repeats(
        look("a", second=0, measures=same), look("b", second=5, measures=same, sha="s"), look("c", second=10, sha="s")
    )
    assert {name: each.of for name, each in found.items()} == {"b": "a", "c": "a"}


def test_the_order_of_rows_does_not_matter():
    looks = [look(name, second=second, sha="s") for name, second in (("a", 0), ("b", 5), ("c", 10))]
    assert repeats(*looks) == repeats(*reversed(looks))


def test_without_camera_and_load_nothing_is_compared():
    lone = {"camera": None, "load": None, "sha": "s"}
    assert repeats(look("a", second=0, **lone), look("b", second=5, **lone)) == {}
