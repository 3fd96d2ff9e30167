"""What ``mlflow.pyfunc.load_model`` loads of a registered version, for those who work with MLflow alone."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scrapray.segmenter.bundle import Bundle, load_bundle


class Scorer:
    """Score of each contaminant at each pixel of tiles."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def predict(self, tiles_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, K, H, W) scores of RGB tiles as large as those of the bundle's card."""
        return self._bundle.score_tiles(tiles_NHW3, out_px=self._bundle.card.tile_px)


def _load_pyfunc(folder: str) -> Scorer:
    """Called by MLflow, by this name."""
    return Scorer(load_bundle(Path(folder)))
