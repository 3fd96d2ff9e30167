"""Bring Ray's token from AWS Secrets Manager to the place where Ray looks for it, ``~/.ray/auth_token``.

    python -m infra.ray_token SECRET_ID

Nodes run this before they start Ray, people before ``ray job submit``. Keys and region come from the AWS environment,
on a node from its instance profile. The token is never printed and stands in no command line.
"""

import os
import sys
from pathlib import Path
from typing import Any

import boto3


def write_token(secret_id: str, secrets: Any, home: Path) -> Path:
    """Write the secret's text to a file that nobody else may read; ``secrets`` is a client of Secrets Manager."""
    token = secrets.get_secret_value(SecretId=secret_id)["SecretString"].strip()
    path = home / ".ray" / "auth_token"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # one that was there may be open to others
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(token)
    return path


if __name__ == "__main__":
    print(write_token(sys.argv[1], boto3.client("secretsmanager"), Path.home()))
