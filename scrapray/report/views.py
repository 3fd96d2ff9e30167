"""The views of a lake, in DuckDB's SQL: what an analyst sees of the published tables.

``files.<table>`` is what lies in the published files of a table, ``<table>`` the rows of them that belong to the
published run of their date and site; the other views are made of these. To add a view, add an entry to ``VIEWS``; to
add a table that is read from files, add an entry to ``TABLES``.

A view that is filtered by ``date`` and ``site`` reads the files of these dates and sites only: which file holds which
night is known from the paths, and DuckDB hands such a filter down to them through everything here. Not everything lets
it through: the weeks of ``suppliers`` do not, nor does ``histogram`` beside another aggregate; a test looks at each
view.
"""

import glob
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from scrapray import schema
from scrapray.storage import join


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Where the files of a table are, and what is in them.

    Attributes:
        columns: Their schema.
        files: Pattern below ``<lake>/<table>/``; s3fs lists ``**`` anew for each question, all else once a minute.
        named_by: The column that each file is named by; None where paths say of which dates and site files are, so that
            a filter on these opens no other.
    """

    columns: pa.Schema
    files: str = "**/part-0.parquet"
    named_by: str | None = None


TABLES: Mapping[str, Table] = {
    **{name: Table(columns=columns) for name, columns in schema.PUBLISHED.items()},
    "reviews": Table(columns=schema.REVIEWS, files="*.parquet", named_by="import_id"),
}
"""What is read from files."""

MIN_LOADS_FOR_INTERVAL = 10
"""With fewer loads nobody can tell how much they differ."""

_Z95 = 1.959963984540054
_SITE = "url_decode(regexp_extract(filename, 'site=([^/]*)/[^/]+$', 1))"
"""From the path, so that a filter on it leaves files out by name. Not by ``hive_partitioning``: with it DuckDB does not
take the columns that are told it here, so that it would open every file to learn which columns each of them has."""

_OF_NIGHTS = """
    -- Each night is joined to the file that holds it: its own, or else that of its month, which sorts behind it (see
    -- scrapray/lake.py). So DuckDB knows the names of all files that it needs before it opens one. A copy of a file,
    -- deeper in the folder or under another spelling, site=n%6Frth beside site=north, is joined to nothing.
    join (
        with held as (
            select
                file,
                url_decode(regexp_extract(file, 'site=([^/]*)/[^/]+$', 1)) as of_site,
                regexp_extract(file, 'date=([^/]+)/site=[^/]*/[^/]+$', 1) as span,
                coalesce(try_cast(span as date), try_cast(span || '-01' as date)) as first,
                case when length(span) = length('2026-11') then last_day(first) else first end as last,
                unnest(generate_series(first, last, interval 1 day))::date as night
            from glob({files})
            where file = {folder} || '/date=' || left(first::text, length(span)) || '/site=' || url_encode(of_site)
                || '/part-0.parquet'
        ),
        -- Where a question is left without a name, DuckDB opens every file: nights that are in none get one that no
        -- file has and that sorts behind those of their month.
        missing as (
            select of_site, unnest(generate_series(min(night), current_date + 1, interval 1 day))::date as night
            from held
            group by of_site
        )
        select min(file) as file, night
        from (
            select file, of_site, night from held
            union all
            select {folder} || '/date=' || left(night::text, 7) || '~/site=' || url_encode(of_site) || '/no', of_site,
                night
            from missing
        )
        group by night, of_site
    ) on filename = file and date = night"""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One view.

    Attributes:
        name: What it is called in a query.
        meaning: What one row is; DuckDB shows it as the view's comment.
        sql: How it is made of tables and of views before it.
    """

    name: str
    meaning: str
    sql: str


MACROS = {
    "student_t": f"""(degrees) as (
        -- The 97.5 % point, by the first terms of its expansion; within 0.0005 from 9 degrees of freedom on.
        -- Reference: Abramowitz and Stegun 1972, 26.7.5.
        {_Z95} + ({_Z95}^3 + {_Z95}) / (4 * degrees)
        + (5 * {_Z95}^5 + 16 * {_Z95}^3 + 3 * {_Z95}) / (96 * degrees^2)
        + (3 * {_Z95}^7 + 19 * {_Z95}^5 + 17 * {_Z95}^3 - 15 * {_Z95}) / (384 * degrees^3)
    )""",
    "skewed_mean": """(num, average, deviation, skew, side) as (
        -- One end of a 95 % interval for the mean of a skewed quantity: side 1 is the upper end, -1 the lower one.
        -- Reference: Hall 1992, On the removal of skewness by transformation, section 2; with Student's t.
        case when abs(skew) < 1e-6 then average + side * student_t(num - 1) * deviation / sqrt(num)
        else average - 3 * deviation / skew * (
            cbrt(1 + skew * (-side * student_t(num - 1) / sqrt(num) - skew / (6 * num))) - 1
        ) end
    )""",
    "wilson": f"""(num_with, num, side) as (
        -- One end of a 95 % interval for a share. Reference: Wilson 1927.
        (num_with + {_Z95}^2 / 2 + side * {_Z95} * sqrt(num_with * (num - num_with) / num + {_Z95}^2 / 4))
        / (num + {_Z95}^2)
    )""",
}
"""Formulas that views use, by name."""

_PUBLISHED = """
    -- The run of a date and site is that of its loads; where a run found none, that of its row in runs.
    select date, site, coalesce(max(of_loads), max(of_no_loads)) as run_id
    from (
        select date, site, run_id as of_loads, null as of_no_loads from files.loads
        union all
        select date, site, null, run_id from files.runs where num_loads = 0
    )
    group by date, site"""

_OF_PUBLISHED_RUN = "select {table}.* from files.{table} join files.published using (date, site, run_id)"

_SUPPLIERS = f"""
    select
        week,
        site,
        supplier,
        num_loads,
        num_measured,
        contamination_mean,
        case when is_spread then greatest(skewed_mean(num_measured, contamination_mean, deviation, skew, -1), 0) end
            as contamination_low,
        case when is_spread then least(skewed_mean(num_measured, contamination_mean, deviation, skew, 1), 1) end
            as contamination_high,
        case when is_spread then 'mean+hall-t' when num_measured > 0 then 'mean' else 'none' end
            as contamination_method,
        num_review,
        num_reject,
        num_reject / num_loads as reject_frac,
        wilson(num_reject, num_loads, -1) as reject_low,
        wilson(num_reject, num_loads, 1) as reject_high
    from (
        select
            date_trunc('week', date)::date as week,
            site,
            supplier,
            count(*) as num_loads,
            count(contamination_frac) as num_measured,
            avg(contamination_frac) as contamination_mean,
            stddev_samp(contamination_frac) as deviation,
            skewness(contamination_frac) as skew,
            num_measured >= {MIN_LOADS_FOR_INTERVAL} and deviation > 0 as is_spread,
            count(*) filter (verdict = 'review') as num_review,
            count(*) filter (verdict = 'reject') as num_reject
        from loads
        group by all
    )"""

_CONTAMINANTS = """
    select
        date,
        site,
        supplier,
        found.class_name as class_name,
        hour,
        count(*) as num_loads,
        count(*) filter (found.count >= 1) as num_loads_with,
        count(*) filter (found.count = 0 and found.max_score > 0) as num_loads_glimpsed,
        sum(found.count)::bigint as num_objects,
        max(found.max_score) as max_score
    from (
        select date, site, supplier, hour, unnest(classes) as found
        from (
            select
                loads.*,
                extract(hour from timezone(json_extract_string(config_json, '$.archive.time_zone'), from_utc)) as hour
            from loads left join runs using (date, site, run_id)
            where loads.num_used > 0
        )
    )
    group by all"""

_CAMERAS = """
    select
        date,
        site,
        camera_id,
        count(*) as num_frames,
        count(*) filter (status = 'rejected') as num_rejected,
        num_rejected / num_frames as rejected_frac,
        list_aggregate(
            list(concat_ws(' ', reject_stage, reject_reason)) filter (status = 'rejected'), 'histogram'
        ) as reject_reasons,
        avg(brightness) filter (is_picture) as brightness,
        avg(sharpness) filter (is_picture) as sharpness,
        avg(color_cast) filter (is_picture) as color_cast,
        avg(dark_frac) filter (is_picture) as dark_frac,
        avg(bright_frac) filter (is_picture) as bright_frac,
        avg(coverage_frac) filter (status = 'used') as coverage_frac
    from (select *, status = 'used' or reject_stage = 'quality' as is_picture from frames)
    group by all"""

_MODELS = """
    select
        date,
        site,
        model_name,
        model_version,
        found.class_name as class_name,
        count(*) as num_frames,
        count(*) filter (found.num_detections > 0) as num_frames_with,
        sum(found.num_detections)::bigint as num_detections,
        avg(found.max_score) filter (found.num_detections > 0) as max_score_mean,
        avg(found.peak_score) as peak_score_mean,
        quantile_cont(found.peak_score, 0.99) as peak_score_p99
    from (
        select date, site, model_name, model_version, unnest(classes) as found
        from frames join runs using (date, site, run_id)
        where status = 'used'
    )
    group by all"""

VIEWS = (
    View(name="loads", meaning="one row per truck load", sql="select * from files.loads"),
    View(name="trucks", meaning="one row per truck, date and site", sql=_OF_PUBLISHED_RUN.format(table="trucks")),
    View(
        name="frames",
        meaning="one row per archived frame, rejected ones too",
        sql=_OF_PUBLISHED_RUN.format(table="frames"),
    ),
    View(
        name="detections",
        meaning="one row per thing found on a frame; the same thing is found on several frames of a load",
        sql=_OF_PUBLISHED_RUN.format(table="detections"),
    ),
    View(name="runs", meaning="one row per audit, date and site", sql=_OF_PUBLISHED_RUN.format(table="runs")),
    View(name="suppliers", meaning="one row per week, site and supplier: trend", sql=_SUPPLIERS),
    View(
        name="contaminants",
        meaning="one row per date, site, supplier, class and local hour at which loads began",
        sql=_CONTAMINANTS,
    ),
    View(name="cameras", meaning="one row per date, site and camera: drift of the picture", sql=_CAMERAS),
    View(
        name="models",
        meaning="one row per date, site, version of the model and class: drift of the model",
        sql=_MODELS,
    ),
    View(
        name="reviews",
        meaning="one row per detection that a person has looked at, thing that one has added, or frame with neither",
        sql="select * from files.reviews",
    ),
)
"""What a query can name, in the order in which they are made."""


def statements(lake_uri: str, types: Mapping[str, Mapping[str, str]], with_files: Collection[str]) -> Iterator[str]:
    """The statements that make the views of a lake in a database of DuckDB.

    Args:
        lake_uri: The lake, as an absolute path or ``s3://``.
        types: DuckDB's type of each column of each table.
        with_files: Tables that have files; the others stay without rows.
    """
    yield "create schema if not exists files"
    for name, formula in MACROS.items():
        yield f"create or replace macro {name}{formula}"
    # Tables get their files last: whatever is made of a table that has files lists them all.
    for table, columns in types.items():
        yield f"create or replace view files.{table} as {_no_rows(columns)}"
    yield f"create or replace view files.published as {_PUBLISHED}"
    for view in VIEWS:
        yield f"create or replace view {view.name} as {view.sql}"
        yield f"comment on view {view.name} is {_quoted(view.meaning)}"
    for table in with_files:
        rows = _rows_in_files(join(lake_uri, table), TABLES[table], types[table])
        yield f"create or replace view files.{table} as {rows}"


def _rows_in_files(folder: str, table: Table, columns: Mapping[str, str]) -> str:
    """A scan of all files of a table that looks into none before it is asked; a column that a file lacks is null."""
    files = _quoted(f"{glob.escape(folder)}/{table.files}")
    told = ", ".join(f"{_quoted(name)}: {_column(name, kind)}" for name, kind in columns.items())
    scan = f"read_parquet({files}, filename = true, schema = map {{{told}}})"
    if table.named_by:
        return f"select * exclude (filename) from {scan} where parse_filename(filename, true) = {table.named_by}"
    chosen = f"* exclude (filename, file, night) replace (night as date, {_SITE} as site)"
    return f"select {chosen} from {scan} {_OF_NIGHTS.format(files=files, folder=_quoted(folder))}"


def _column(name: str, kind: str) -> str:
    return f"{{name: {_quoted(name)}, type: {_quoted(kind)}, default_value: null}}"


def _no_rows(columns: Mapping[str, str]) -> str:
    return f"select {', '.join(f'null::{kind} as {name}' for name, kind in columns.items())} where false"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
