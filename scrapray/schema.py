"""Columns of every table, named here and nowhere else (Parquet, zstd).

``MANIFEST`` goes into an audit, ``RESULTS`` comes out of its workers (one row per frame, detections nested),
and ``FRAMES``, ``DETECTIONS``, ``LOADS``, ``TRUCKS`` and ``RUNS`` are published. ``TEST_STATISTICS`` goes with a
trained model.

Times are UTC; ``date`` is the local calendar date of the load at its site. Boxes are half-open in frame pixels,
origin at the top left. Fractions are shares from 0 to 1, never percentages.
"""

import pyarrow as pa

SCHEMA_VERSION = 3

_UTC = pa.timestamp("us", tz="UTC")


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_IDENTITY = [
    _required("frame_id", pa.string()),
    _required("uri", pa.string()),
    _required("etag", pa.string()),
    _required("size_bytes", pa.int64()),
    _required("site", pa.string()),
    _required("date", pa.date32()),
    pa.field("camera_id", pa.string()),
    pa.field("taken_utc", _UTC),
    pa.field("truck_id", pa.string()),
    pa.field("load_id", pa.string()),
    pa.field("supplier", pa.string()),
    pa.field("load_source", pa.string()),
]

_REJECTION = [
    pa.field("reject_stage", pa.string()),
    pa.field("reject_reason", pa.string()),
]

MANIFEST = pa.schema([*_IDENTITY, *_REJECTION, pa.field("duplicate_of", pa.string())])
"""One row per archived object. ``load_source`` is ``key``, ``gate_log`` or ``time_gap``; a row that cannot be
audited has ``reject_stage`` = ``manifest`` and a reason; ``duplicate_of`` names the frame that it repeats."""

WORK_LIST = pa.schema([MANIFEST.field(name) for name in ("frame_id", "uri", "camera_id")])
"""What workers are told of the frames that they are to segment."""

CLASS_AREA = pa.struct(
    [
        _required("class_name", pa.string()),
        _required("area_px", pa.int64()),
        _required("num_detections", pa.int32()),
        _required("max_score", pa.float32()),
        _required("peak_score", pa.float32()),
    ]
)
"""A contaminant on one frame. ``max_score`` is that of its best detection, 0 without any; ``peak_score`` the highest
that the map reaches over the smallest area of a detection, below the threshold too."""

BBOX = pa.struct([_required(side, pa.int32()) for side in ("x_min_px", "y_min_px", "x_max_px", "y_max_px")])

MASK = pa.struct(
    [_required("height_px", pa.int32()), _required("width_px", pa.int32()), _required("counts", pa.string())]
)
"""COCO compressed run lengths of the whole frame."""

_DETECTION = [
    _required("class_name", pa.string()),
    _required("score", pa.float32()),
    _required("severity", pa.int8()),
    _required("bbox", BBOX),
    _required("area_px", pa.int64()),
    _required("area_frac", pa.float64()),
    _required("mask", MASK),
]

_MEASURES = [
    _required("status", pa.string()),
    *_REJECTION,
    pa.field("content_sha256", pa.string()),
    pa.field("height_px", pa.int32()),
    pa.field("width_px", pa.int32()),
    pa.field("bed_area_px", pa.int64()),
    pa.field("seen_area_px", pa.int64()),
    pa.field("coverage_frac", pa.float64()),
    pa.field("sharpness", pa.float32()),
    pa.field("brightness", pa.float32()),
    pa.field("dark_frac", pa.float32()),
    pa.field("bright_frac", pa.float32()),
    pa.field("color_cast", pa.float32()),
    pa.field("contaminated_area_px", pa.int64()),
    pa.field("peak_score", pa.float32()),
    pa.field("classes", pa.list_(pa.field("element", CLASS_AREA, nullable=False))),
]
"""What is known of a frame after its audit. ``status`` is ``used`` or ``rejected``; ``peak_score`` is the highest of
those of its classes."""

RESULTS = pa.schema(
    [
        _required("frame_id", pa.string()),
        pa.field("camera_id", pa.string()),
        *_MEASURES,
        pa.field("thumbnail", pa.binary()),
        pa.field("detections", pa.list_(pa.field("element", pa.struct(_DETECTION), nullable=False))),
    ]
)
"""What a worker writes: one row per frame. ``camera_id`` is the camera whose bed it was given; ``thumbnail`` is a small
grey picture (bytes, row by row) that shows whether the camera froze."""

FRAMES = pa.schema(
    [
        _required("run_id", pa.string()),
        *_IDENTITY,
        *_MEASURES,
        pa.field("duplicate_of", pa.string()),
    ]
)

DETECTIONS = pa.schema(
    [
        _required("run_id", pa.string()),
        _required("detection_id", pa.string()),
        _required("frame_id", pa.string()),
        _required("site", pa.string()),
        _required("date", pa.date32()),
        pa.field("camera_id", pa.string()),
        pa.field("taken_utc", _UTC),
        pa.field("truck_id", pa.string()),
        pa.field("load_id", pa.string()),
        *_DETECTION,
    ]
)

CLASS_OF_LOAD = pa.struct(
    [
        _required("class_name", pa.string()),
        _required("severity", pa.int8()),
        _required("area_frac", pa.float64()),
        _required("count", pa.int32()),
        _required("max_score", pa.float32()),
        _required("certainty", pa.float32()),
    ]
)
"""A contaminant on a load. ``certainty`` says how far ``max_score`` lies on the way from the class's threshold to 1."""

_CONTAMINATION = [
    pa.field("coverage_frac", pa.float64()),
    pa.field("contamination_frac", pa.float64()),
    pa.field("contamination_low", pa.float64()),
    pa.field("contamination_high", pa.float64()),
    _required("contamination_method", pa.string()),
    _required("worst_severity", pa.int8()),
    _required("verdict", pa.string()),
    _required("verdict_rule", pa.string()),
    _required("verdict_reason", pa.string()),
]
"""``verdict`` is ``accept``, ``review`` or ``reject``; ``worst_severity`` is that of what two frames agree
on, and 0 where there is nothing of the kind."""

LOADS = pa.schema(
    [
        _required("run_id", pa.string()),
        _required("site", pa.string()),
        _required("date", pa.date32()),
        pa.field("truck_id", pa.string()),
        _required("load_id", pa.string()),
        pa.field("supplier", pa.string()),
        _required("camera_ids", pa.list_(pa.field("element", pa.string(), nullable=False))),
        pa.field("from_utc", _UTC),
        pa.field("until_utc", _UTC),
        _required("num_frames", pa.int32()),
        _required("num_used", pa.int32()),
        _required("num_rejected", pa.int32()),
        pa.field("seen_area_px", pa.int64()),
        *_CONTAMINATION,
        _required("classes", pa.list_(pa.field("element", CLASS_OF_LOAD, nullable=False))),
        _required("evidence_frame_ids", pa.list_(pa.field("element", pa.string(), nullable=False))),
    ]
)

TRUCKS = pa.schema(
    [
        _required("run_id", pa.string()),
        _required("site", pa.string()),
        _required("date", pa.date32()),
        _required("truck_id", pa.string()),
        pa.field("supplier", pa.string()),
        _required("num_loads", pa.int32()),
        _required("num_used", pa.int32()),
        *_CONTAMINATION,
    ]
)

RUNS = pa.schema(
    [
        _required("run_id", pa.string()),
        _required("site", pa.string()),
        _required("date", pa.date32()),
        _required("started_utc", _UTC),
        _required("finished_utc", _UTC),
        _required("model_uri", pa.string()),
        _required("model_name", pa.string()),
        _required("model_version", pa.string()),
        _required("weights_sha256", pa.string()),
        _required("config_json", pa.string()),
        _required("config_sha256", pa.string()),
        _required("code_version", pa.string()),
        _required("num_frames", pa.int32()),
        _required("num_used", pa.int32()),
        _required("num_rejected", pa.int32()),
        _required("num_loads", pa.int32()),
        _required("num_computed", pa.int32()),
        _required("segment_s", pa.float64()),
    ]
)
"""``num_computed`` counts the frames that this run segmented itself, the rest came from a run before it;
``segment_s`` is the wall time of that work."""

TEST_STATISTICS = pa.schema(
    [
        _required("split_sha256", pa.string()),
        _required("load_id", pa.string()),
        _required("class_name", pa.string()),
        _required("threshold", pa.float64()),
        _required("num_found_px", pa.int64()),
        _required("score_bins", pa.list_(pa.int32())),
        _required("num_normal_px", pa.list_(pa.int64())),
        _required("num_contaminant_px", pa.list_(pa.int64())),
    ]
)
"""``test_statistics.parquet`` beside the weights of a bundle: what its model scored on the test split, one row per load
and class. Lists run over the bins of ``promotion.LoadCounts`` that are not empty."""

EVALUATION = pa.schema(
    [
        _required("subject", pa.string()),
        _required("dataset", pa.string()),
        _required("split", pa.string()),
        _required("split_sha256", pa.string()),
        _required("class_name", pa.string()),
        _required("figure", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("chance", pa.float64()),
        pa.field("reason", pa.string()),
    ]
)
"""One row per class and figure of an evaluation: its value, with a 95 % interval over loads where it has one, what
chance reaches, and why there is no value where there is none, or no interval with one load."""

COMPARISON = pa.schema(
    [
        _required("table", pa.string()),
        _required("label", pa.string()),
        _required("class_name", pa.string()),
        _required("figure", pa.string()),
        _required("num_runs", pa.int64()),
        pa.field("mean", pa.float64()),
        pa.field("spread", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("chance", pa.float64()),
        pa.field("published", pa.float64()),
        pa.field("reason", pa.string()),
    ]
)
"""One row per entry of a table that compares methods, class and figure: mean and standard deviation over seeds, mean
ends of the intervals over loads, chance, what the paper says, and why there is no value where there is none."""

PUBLISHED = {"frames": FRAMES, "detections": DETECTIONS, "trucks": TRUCKS, "runs": RUNS, "loads": LOADS}
"""Published tables in the order of publishing: ``loads`` comes last, so a load never points at what is not there."""

_ASKED_CLASS = pa.struct([_required("class_name", pa.string()), _required("severity", pa.int8())])

_REVIEWED_FRAME = [
    _required("queue_id", pa.string()),
    _required("run_id", pa.string()),
    _required("weights_sha256", pa.string()),
    _required("site", pa.string()),
    _required("date", pa.date32()),
    pa.field("truck_id", pa.string()),
    _required("load_id", pa.string()),
    _required("frame_id", pa.string()),
    _required("uri", pa.string()),
    _required("key", pa.string()),
    _required("height_px", pa.int32()),
    _required("width_px", pa.int32()),
    _required("reasons", pa.list_(pa.field("element", pa.string(), nullable=False))),
    _required("is_random_sample", pa.bool_()),
    _required("num_drawn_from", pa.int32()),
]
"""A frame that people are asked about, and the run that they are asked about. ``key`` is its place in the archive;
``num_drawn_from`` counts the frames of its night and site among which the random sample was drawn."""

REVIEW_QUEUE = pa.schema(
    [
        *_REVIEWED_FRAME,
        _required("exported_utc", _UTC),
        _required("classes", pa.list_(pa.field("element", _ASKED_CLASS, nullable=False))),
    ]
)
"""One row per frame of an export for review; ``classes`` are those that a reviewer may give."""

REVIEWS = pa.schema(
    [
        _required("import_id", pa.string()),
        _required("reviewer", pa.string()),
        _required("reviewed_utc", _UTC),
        *_REVIEWED_FRAME,
        _required("is_blind", pa.bool_()),
        _required("outcome", pa.string()),
        pa.field("detection_id", pa.string()),
        pa.field("machine_class", pa.string()),
        pa.field("machine_score", pa.float32()),
        pa.field("class_name", pa.string()),
        pa.field("severity", pa.int8()),
        pa.field("area_px", pa.int64()),
        pa.field("mask", MASK),
        pa.field("iou", pa.float64()),
    ]
)
"""What a reviewer said, append only. ``outcome`` is ``confirmed``, ``corrected``, ``rejected`` or ``added``, one row
per detection or added object, or ``clean``, one row for a frame without either. ``class_name`` and ``mask`` are those
of the reviewer, null where there is no object; ``reviewed_utc`` is the time of the import."""

REVIEWED_LOADS = pa.schema(
    [
        *(LOADS.field(name) for name in ("run_id", "site", "date", "truck_id", "load_id", "supplier", "num_used")),
        *(LOADS.field(name) for name in ("contamination_frac", "worst_severity", "verdict", "verdict_rule")),
        _required("num_reviewed", pa.int32()),
        _required("reviewers", pa.list_(pa.field("element", pa.string(), nullable=False))),
        _required("last_reviewed_utc", _UTC),
        _required("is_disputed", pa.bool_()),
        pa.field("reviewed_contamination_frac", pa.float64()),
        _required("reviewed_worst_severity", pa.int8()),
        _required("reviewed_verdict", pa.string()),
        _required("reviewed_rule", pa.string()),
        _required("reviewed_reason", pa.string()),
    ]
)
"""One row per load of which a used frame was reviewed: what the machine said, and what the same rules say of the
reviewed frames and the machine's others. Worked out when it is asked for, never stored."""

_TOLD_BY_KEY = [
    _required("frame_id", pa.string()),
    _required("uri", pa.string()),
    pa.field("site", pa.string()),
    pa.field("date", pa.date32()),
    pa.field("camera_id", pa.string()),
    pa.field("truck_id", pa.string()),
    pa.field("load_id", pa.string()),
]
"""Of an annotated frame; all but the first two are null for pictures that belong to no load."""

_REGION = pa.struct(
    [
        _required("class_name", pa.string()),
        _required("annotation_id", pa.string()),
        _required("is_crowd", pa.bool_()),
        _required("polygons", pa.list_(pa.list_(pa.float64()))),
        pa.field("mask", MASK),
    ]
)

_ANNOTATED_FRAME = pa.struct(
    [
        *_TOLD_BY_KEY,
        _required("key", pa.string()),
        pa.field("height_px", pa.int32()),
        pa.field("width_px", pa.int32()),
        _required("regions", pa.list_(pa.field("element", _REGION, nullable=False))),
        pa.field("mask_uri", pa.string()),
        pa.field("mask_etag", pa.string()),
        pa.field("mask_class", pa.string()),
    ]
)

PARTS = pa.schema(
    [
        _required("part", pa.string()),
        _required("split", pa.string()),
        _required("frames", pa.list_(pa.field("element", _ANNOTATED_FRAME, nullable=False))),
    ]
)
"""What workers are told: one row per part of a dataset, with the frames that are to be cut for it."""

TILE_MANIFEST = pa.schema(
    [
        _required("tile_id", pa.string()),
        *_TOLD_BY_KEY,
        _required("content_sha256", pa.string()),
        _required("thumbnail", pa.binary()),
        _required("unit", pa.string()),
        _required("split", pa.string()),
        _required("box_xyxy", pa.list_(pa.field("element", pa.int32(), nullable=False))),
        _required("class_px", pa.list_(pa.field("element", pa.int64(), nullable=False))),
        _required("tile_sha256", pa.string()),
        _required("part", pa.string()),
        _required("row", pa.int32()),
    ]
)
"""One row per tile of a dataset. ``tile_id`` follows from key and content of the frame and from the box, wherever the
frame lies; ``class_px`` counts its pixels of steel and of each class; ``content_sha256`` is of the frame's file,
``tile_sha256`` of image and mask; ``thumbnail`` shows the frame's truck bed in 16 x 16 grey means; ``unit`` names the
load, or what takes its place, that a split never tears; the tile is the given row of the given part."""

TILES = pa.schema([*TILE_MANIFEST, _required("image", pa.binary()), _required("mask", pa.binary())])
"""The same with the tile itself: RGB, and the class id of each pixel, both as PNG."""

SKIPPED = pa.schema(
    [
        _required("picture", pa.string()),
        _required("stage", pa.string()),
        _required("reason", pa.string()),
        pa.field("annotation_id", pa.string()),
        _required("detail", pa.string()),
    ]
)
"""One row per picture, mask or annotation that was left out of a dataset; or, with stage ``kept``, is worth a look."""
