r"""One training as one job: prepared tiles in, a registered candidate out.

    ray job submit --working-dir settings/ -- \
      python /opt/scrapray/jobs/finetune.py s3://datasets/scrap-7/ finetune.toml [s3://datasets/runs/]

In place of the file there may be names of profiles, such as ``paper``, ``split`` or ``demo+frozen``; a file has them as
``profiles = ["split"]`` at its top. Without a third argument runs go beside the dataset.
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from scrapray.errors import ConfigurationError, in_one_line
from scrapray.storage import absolute, join
from scrapray.training.produce import train_model
from scrapray.training.profiles import read_finetune


def main(dataset: str, settings: str, runs: str | None = None) -> None:
    """Train, register, and say what came out."""
    is_file = settings.endswith(".toml")
    config = read_finetune(Path(settings)) if is_file else read_finetune(None, settings.split("+"))
    folder, _, name = absolute(dataset).rstrip("/").rpartition("/")
    if runs is None and folder.endswith(":/"):
        raise ConfigurationError(
            f"{dataset}: a dataset that is a whole bucket, {name}, has nothing beside it; say where runs go"
        )
    summary = train_model(dataset, runs or join(folder, "runs"), config=config)
    precision = summary.test["any"]["average_precision"]
    print(f"{summary.name}: pixel AP on test {precision:.4f}, bundle {summary.bundle_uri}")
    print(summary.model_uri or "not registered yet")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("settings")
    parser.add_argument("runs", nargs="?")
    with in_one_line(f"python {sys.argv[0]}"):
        main(**vars(parser.parse_args()))
