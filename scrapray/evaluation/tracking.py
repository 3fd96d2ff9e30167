"""An evaluation as a run on the MLflow server, so that models are compared there over time."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scrapray.evaluation.evaluate import Evaluation
from scrapray.evaluation.results import Row
from scrapray.registry import Registry

EXPERIMENT = "scrap-evaluations"
"""Groups the runs."""
_MOST_CHARACTERS = 5000
"""Of a tag, on servers of any age; ``settings.json`` keeps it whole."""


def track(
    evaluation: Evaluation,
    rows: Sequence[Row],
    files: Mapping[str, bytes],
    *,
    settings: Mapping[str, Any],
    registry: Registry,
) -> str:
    """Log figures as ``<class>/<figure>``, the files, settings, and what was held against what.

    Args:
        evaluation: What was measured.
        rows: As ``rows_of`` gives them.
        files: As ``files_of`` does.
        settings: Of the evaluation.
        registry: Takes the run.

    Returns:
        Id of the run.

    Raises:
        RegistryError: The server cannot be reached.
    """
    figures = {f"{row['class_name']}/{row['figure']}": row["value"] for row in rows if row["value"] is not None}
    tags = {"split": evaluation.split, "split_sha256": evaluation.split_sha256, **evaluation.subject_tags}
    with registry.start_run(evaluation.subject, experiment=EXPERIMENT) as run:
        run.set_tags({name: value[:_MOST_CHARACTERS] for name, value in tags.items()})
        run.log_settings({**settings, "subject": tags}, dataset_card=asdict(evaluation.dataset_card))
        run.log_metrics(0, {re.sub(r"[^\w\-./: ]+", "", name): value for name, value in figures.items()})
        with tempfile.TemporaryDirectory(prefix="scrapray-evaluation-") as folder:
            for name, data in files.items():
                path = Path(folder, name)
                path.write_bytes(data)
                run.log_file(path)
    return run.run_id
