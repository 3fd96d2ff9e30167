"""The whole life of a model on real services: S3, an MLflow server with users, Ray."""

import datetime as dt
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from scrapray import cli
from scrapray.imagery.png import encode_png
from scrapray.lake import read_partition
from scrapray.registry import CHAMPION, Registry
from scrapray.storage import Storage, join
from tests.fixtures.pictures import TINY_CLIP
from tests.fixtures.services import S3Server
from tests.fixtures.tracking import MlflowServer
from tests.integration.test_train import SETTINGS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("engine"), pytest.mark.timeout(900)]

PREPARE = """
[tiles]
tile_px = 64
overlap_px = 0
[split]
train = 0.5
validation = 0.2
test = 0.3
seed = 7
"""
WORSE = "[optim]\nlr_vision = 0.0\nlr_prompt = 1e-9\nlr_msm = 0.0\nwarmup_steps = 0\n"


def frame_of_squares(number: int) -> tuple[bytes, bytes]:
    """A frame that even a tiny model learns within a minute: noise with bright squares, red, green and blue."""
    rng = np.random.default_rng(number)
    image_HW3 = rng.integers(0, 100, (192, 256, 3), dtype=np.uint8)
    class_HW = np.zeros((192, 256), np.uint8)
    for class_id, (top, left) in enumerate(zip(rng.integers(0, 168, 3), (8, 90, 180), strict=True), start=1):
        image_HW3[top : top + 24, left : left + 24, class_id - 1] = 250
        class_HW[top : top + 24, left : left + 24] = class_id
    buffer = io.BytesIO()
    Image.fromarray(image_HW3).save(buffer, "JPEG", quality=95)
    return buffer.getvalue(), encode_png(class_HW)


def scrapray(*arguments: object, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], terminal_width=120)
    assert result.exit_code == exit_code, f"{arguments}: {result.output}\n{result.exception}"
    return result


def test_from_annotations_to_production_and_back(
    s3: S3Server, mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    storage, bucket = Storage(s3.config), s3.make_bucket("round")
    for number in range(18):
        key = f"north/2026-11-20/0007/L{number // 2:03}/c1_{number:06}"
        frame, mask = frame_of_squares(number)
        storage.write_bytes(join(bucket, "frames", f"{key}.jpg"), frame)
        storage.write_bytes(join(bucket, "frames", f"{key}.png"), mask)
    door = f'[storage]\nendpoint_url = "{s3.endpoint_url}"\nregion = "us-east-1"\n'
    (tmp_path / "audit.toml").write_text("[segment]\noverlap_px = 0\n[limits]\nmax_rejected_frac = 1.0\n" + door)
    (tmp_path / "dataset.toml").write_text(PREPARE + door)
    (tmp_path / "tiny.json").write_text(json.dumps(TINY_CLIP))
    good = SETTINGS.format(clip=tmp_path / "tiny.json").replace("epochs = 2", "epochs = 8") + door
    (tmp_path / "good.toml").write_text(good)
    before, _, rest = good.partition("[optim]")
    (tmp_path / "worse.toml").write_text(before.replace("= 8", "= 1", 1) + WORSE + rest[rest.index("[workers]") :])

    frames, dataset, runs, lake = (join(bucket, name) for name in ("frames", "scrap-7", "runs", "lake"))
    scrapray("prepare", "masks", frames, dataset, "--config", "dataset.toml", "--check")
    scrapray("train", dataset, "--config", "good.toml", "--runs", runs)
    scrapray("models", "promote", "candidate")
    scrapray("index", frames, join(lake, "_manifest"), "--config", "audit.toml")
    champion = f"models:/scrap-segmenter@{CHAMPION}"
    result = CliRunner().invoke(
        cli.app, ["audit", join(lake, "_manifest"), lake, "--model", champion, "--config", "audit.toml"]
    )
    assert result.exit_code in (0, 3), result.output
    published = storage.list_names(join(lake, "runs"))
    assert published, "every night has its row of the run"
    assert audited_with(published[0], lake, storage) == "models:/scrap-segmenter/1", "the version, never the alias"

    scrapray("train", dataset, "--config", "worse.toml", "--runs", runs)
    refused = scrapray("models", "promote", "candidate", exit_code=2)
    assert "does not replace champion 1" in refused.output
    assert Registry().show(CHAMPION).version == 1
    scrapray("models", "promote", "candidate", "--force", "to see how it goes back")
    assert Registry().show(CHAMPION).version == 2
    scrapray("models", "rollback")
    assert Registry().show(CHAMPION).version == 1


def audited_with(uri: str, lake: str, storage: Storage) -> str:
    """The model that a published row of ``runs`` names."""
    date, site = (part.partition("=")[2] for part in uri.split("/")[-3:-1])
    (row,) = read_partition(lake, "runs", dt.date.fromisoformat(date), site, storage).to_pylist()
    return str(row["model_uri"])
