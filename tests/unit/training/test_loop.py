import pytest

from scrapray.errors import DivergedError
from scrapray.training.loop import check_course


def course(*losses: float) -> list[dict[str, float]]:
    return [{"step": 20.0 * place, "loss": loss} for place, loss in enumerate(losses, start=1)]


def test_a_loss_that_rises_far_above_its_beginning_ends_training() -> None:
    with pytest.raises(DivergedError, match=r"training diverged: loss 6.1 over the last 20 steps, 2 over the first"):
        check_course([*course(2.0, 0.5, 6.1), {"step": 61.0, "validation/any/f1_max": 0.1}])


@pytest.mark.parametrize("losses", [(2.0,), (2.0, 0.1, 5.9), (2.0, 7.0, 1.0)])
def test_a_loss_that_goes_up_and_down_does_not(losses: tuple[float, ...]) -> None:
    check_course(course(*losses))
