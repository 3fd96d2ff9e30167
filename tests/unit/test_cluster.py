import pytest

from scrapray.cluster import without_room

GPU_NODE, CPU_NODE = {"GPU": 1.0, "CPU": 2.0, "memory": 1e9}, {"CPU": 32.0}


@pytest.mark.parametrize(
    ("bundles", "nodes", "num_homeless"),
    [
        ([], [], 0),
        ([{"CPU": 1.0}], [], 1),
        ([{"CPU": 1.0}] * 8, [{"CPU": 8.0}], 0),
        ([{"CPU": 1.0}] * 9, [{"CPU": 8.0}], 1),
        ([{"GPU": 1.0, "CPU": 2.0}], [GPU_NODE, CPU_NODE], 0),
        ([{"GPU": 1.0, "CPU": 4.0}], [GPU_NODE, CPU_NODE], 1),
        ([{"CPU": 32.0}, {"GPU": 1.0, "CPU": 2.0}], [CPU_NODE, GPU_NODE], 0),
        ([{"CPU": 2.0}, {"GPU": 0.5, "CPU": 1.0}, {"GPU": 0.5, "CPU": 1.0}], [GPU_NODE, {"CPU": 2.0}], 0),
    ],
)
def test_every_bundle_needs_a_node_of_its_own_that_has_room(
    bundles: list[dict[str, float]], nodes: list[dict[str, float]], num_homeless: int
) -> None:
    """A cluster may have enough in all, and yet no node with enough for one worker."""
    assert len(without_room(bundles, nodes)) == num_homeless
