import numpy as np

from scrapray.imagery.likeness import coarse_look, near_copies


def test_noise_does_not_make_another_picture_but_another_heap_does() -> None:
    rng = np.random.default_rng(0)
    bed_HW = np.zeros((90, 160), np.bool_)
    bed_HW[10:80, 20:140] = True
    heap, other = (np.kron(rng.integers(0, 200, (9, 16, 3)), np.ones((10, 10, 1))) for _ in range(2))
    again = heap + rng.normal(0, 4, heap.shape)
    looks = [coarse_look(pixels.clip(0, 255).astype(np.uint8), bed_HW) for pixels in (heap, other, again)]
    assert all(len(look) == 256 for look in looks)
    assert near_copies(looks) == [(0, 2)]


def test_what_lies_outside_the_bed_is_not_looked_at() -> None:
    frame_HW3 = np.full((64, 64, 3), 90, np.uint8)
    bed_HW = np.zeros((64, 64), np.bool_)
    bed_HW[16:48, 16:48] = True
    changed_HW3 = frame_HW3.copy()
    changed_HW3[:16] = 255
    assert coarse_look(frame_HW3, bed_HW) == coarse_look(changed_HW3, bed_HW)


def test_of_no_frames_none_are_alike() -> None:
    assert near_copies([]) == []
