"""Names of figures as the server takes them."""

from itertools import product

import pytest
from mlflow.utils.validation import _validate_metric_name

from scrapray.registry.runs import as_logged


@pytest.mark.parametrize("name", ["loss", "motor/auroc", "validation/spray can/f1_max", "1.5 mm/auroc", "a: b/auroc"])
def test_a_name_that_the_server_takes_stays(name: str) -> None:
    assert as_logged(name) == name


def test_any_name_of_a_class_is_taken_and_no_two_become_one() -> None:
    class_names = ["a" + "".join(rest) for length in range(6) for rest in product("a/.:", repeat=length)]
    assert {"a/", "a//a", "a/../a", "a/."} < set(class_names)
    logged = {as_logged(f"{prefix}{name}/auroc") for name in class_names for prefix in ("", "validation/")}
    assert len(logged) == 2 * len(class_names)
    for name in logged:
        _validate_metric_name(name)
