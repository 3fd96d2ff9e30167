"""How often the interval of a supplier's week holds the mean of its loads, beside the interval of the textbooks.

    python benchmarks/mean_intervals.py

Draws 4000 weeks of each kind: some loads are clean, the contamination of the others is lognormal. The interval is that
of the view ``suppliers``, by its own formula in DuckDB.
"""

import datetime as dt
import tempfile

import numpy as np
import pyarrow as pa
from lake_year import draw_lake
from scipy import stats

from scrapray.report.queries import ask, open_lake
from scrapray.storage import Storage

NUM_WEEKS = 4000
SHARES_OF_DIRTY = (1.0, 0.2, 0.1)
SIGMAS = (0.5, 1.0, 1.5)
NUM_LOADS = (10, 30, 100, 300)
ENDS = """
    select skewed_mean(num, mean, deviation, skew, -1) as low, skewed_mean(num, mean, deviation, skew, 1) as high
    from (
        select week, count(*) as num, avg(frac) as mean, stddev_samp(frac) as deviation, skewness(frac) as skew
        from drawn group by week having deviation > 0
    )
    order by week"""


def main() -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        draw_lake(folder, dates=[dt.date(2026, 11, 20)], sites=["a"], num_loads=1)
        connection = open_lake(folder, Storage())
        for share in SHARES_OF_DIRTY:
            for sigma in SIGMAS:
                truth = share * np.exp(sigma**2 / 2)
                figures = []
                for num in NUM_LOADS:
                    frac_WL = rng.lognormal(0, sigma, (NUM_WEEKS, num)) * (rng.random((NUM_WEEKS, num)) < share)
                    frac_WL = frac_WL[frac_WL.std(axis=1) > 0]
                    weeks = np.repeat(np.arange(len(frac_WL)), num)
                    connection.register("drawn", pa.table({"week": weeks, "frac": frac_WL.ravel()}))
                    ends = ask(connection, ENDS)
                    low, high = ends["low"].to_numpy(), ends["high"].to_numpy()
                    half = stats.t.ppf(0.975, num - 1) * stats.sem(frac_WL, axis=1)
                    plain = np.mean(np.abs(frac_WL.mean(axis=1) - truth) <= half)
                    figures.append(f"{np.mean((low <= truth) & (truth <= high)):.0%} ({plain:.0%})")
                print(f"| {share:.0%} | {sigma} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
