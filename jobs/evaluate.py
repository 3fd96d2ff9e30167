"""The tables of the scrap paper for a dataset: baselines, our segmenter and its ablations, each trained and measured.

    python jobs/evaluate.py s3://datasets/scrap-7/ results/ [evaluate.toml] [--table paper] [--profile demo] [--seeds 0]

``--table methods`` or ``--table scales`` makes one of both; ``--finetune finetune.toml`` has settings of our trainings.
Needs hours on a GPU; stopped, it goes on with the run that it was at. Prints the tables; their files and pictures lie
in the folder.
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from scrapray.config import read_settings
from scrapray.datasets.read import open_dataset
from scrapray.errors import in_one_line
from scrapray.evaluation.comparison import TABLES, Comparison
from scrapray.evaluation.config import EvaluateConfig
from scrapray.evaluation.tables import write_comparison
from scrapray.folders import local_folder
from scrapray.storage import Storage

TITLES = {"methods": "Methods", "scales": "Windows of the multi-scale mechanism"}


def main(dataset: str, folder: Path, config: Path | None, table: str, **trainings: Any) -> None:
    """Train, measure, print and write; ``trainings`` are those attributes of ``Comparison``."""
    settings = read_settings(config, EvaluateConfig) if config else EvaluateConfig()
    comparison = Comparison(dataset_uri=dataset, folder=folder, config=settings, **trainings)
    opened = open_dataset(dataset, Storage(settings.storage))
    for name in TABLES if table == "paper" else (table,):
        measured = comparison.measure(TABLES[name])
        page, written = write_comparison(measured, opened, name, TITLES[name], folder)
        print(page, *written, sep="\n")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("folder", type=local_folder)
    parser.add_argument("config", type=Path, nargs="?")
    parser.add_argument("--table", choices=("paper", *TABLES), default="paper")
    parser.add_argument("--profile", action="append", default=[], dest="profiles")
    parser.add_argument("--finetune", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--baseline-seeds", type=int, nargs="+", default=[], help="of baselines, if not the same")
    with in_one_line(f"python {sys.argv[0]}"):
        main(**vars(parser.parse_args()))
