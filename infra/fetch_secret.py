"""Bring a secret from AWS Secrets Manager to a file that its owner alone may read.

    python -m infra.fetch_secret SECRET_ID FILE

Nodes run this before they start Ray, for Ray's token and for settings such as ``MLFLOW_TRACKING_URI``; people before
``ray job submit``, for the token. Keys and region come from the AWS environment, on a node from its instance profile.
The secret is never printed and stands in no command line.
"""

import os
import sys
from pathlib import Path
from typing import Any

import boto3


def fetch_secret(secret_id: str, path: Path, secrets: Any) -> None:
    """Write the secret's text to a file that nobody else may read; ``secrets`` is a client of Secrets Manager."""
    text = secrets.get_secret_value(SecretId=secret_id)["SecretString"].strip()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # one that was there may be open to others
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)


if __name__ == "__main__":
    fetch_secret(sys.argv[1], Path(sys.argv[2]), boto3.client("secretsmanager"))
