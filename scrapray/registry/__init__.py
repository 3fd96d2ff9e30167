"""Runs, model versions and aliases on an MLflow server; the one room that imports mlflow.

    Registry.start_run -> Run.log_metrics, log_settings, log_file, register_bundle -> Registry.compare, promote
    Registry.resolve("models:/scrap-segmenter@champion") -> ModelVersion -> Registry.download

The server is MLflow's own ``MLFLOW_TRACKING_URI``; without it, a file ``mlflow.db`` in the working folder with
artifacts in ``mlartifacts`` beside it. User and password come from ``MLFLOW_TRACKING_USERNAME`` and
``MLFLOW_TRACKING_PASSWORD``, and no message holds them.
"""

from scrapray.registry.comparison import ChampionComparison, Measured
from scrapray.registry.models import Registry
from scrapray.registry.runs import Run
from scrapray.registry.versions import CANDIDATE, CHAMPION, MODEL_NAME, TEST_STATISTICS, ModelVersion

__all__ = [
    "CANDIDATE",
    "CHAMPION",
    "MODEL_NAME",
    "TEST_STATISTICS",
    "ChampionComparison",
    "Measured",
    "ModelVersion",
    "Registry",
    "Run",
]
