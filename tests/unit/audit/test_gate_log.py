import datetime as dt
import random
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scrapray.audit.gate_log import Arrival, GateLog, read_gate_log
from scrapray.config import GateLogConfig
from scrapray.errors import SchemaError, StorageError
from scrapray.storage import Storage

HEADER = "truck_id,load_id,supplier,site,camera,from,until"

MIDDLE = dt.datetime(2026, 10, 25, 1, 0, tzinfo=dt.UTC)
"""When the clocks in Rome go back from 03:00 to 02:00."""


def utc(hour, minute=0, second=0, day=20):
    return dt.datetime(2026, 11, day, hour, minute, second, tzinfo=dt.UTC)


def read(tmp_path, *lines, header=HEADER, encoding="utf-8", **options):
    path = tmp_path / "gate_log.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding=encoding)
    return read_gate_log(GateLogConfig(uri=str(path), **options), Storage())


def test_a_frame_belongs_to_the_truck_that_stood_there(tmp_path):
    log = read(tmp_path, "0007,L1,Acme,north,PR8,2026-11-20T06:00:00,2026-11-20T06:10:00")
    arrival = log.find("north", "PR8", utc(6, 5))
    assert (arrival.truck_id, arrival.load_id, arrival.supplier) == ("0007", "L1", "Acme")
    assert arrival.date == dt.date(2026, 11, 20)
    assert log.faults == []


@pytest.mark.parametrize(("moment", "there"), [((5, 59, 59), 0), ((6, 0, 0), 1), ((6, 10, 0), 1), ((6, 10, 1), 0)])
def test_both_ends_of_a_record_belong_to_it(moment, there, tmp_path):
    log = read(tmp_path, "7,L1,,north,PR8,2026-11-20T06:00:00,2026-11-20T06:10:00")
    assert (log.find("north", "PR8", utc(*moment)) is not None) == there


def test_another_camera_or_site_does_not_match(tmp_path):
    log = read(tmp_path, "7,L1,,north,PR8,2026-11-20T06:00:00,2026-11-20T06:10:00")
    assert log.find("north", "PR9", utc(6, 5)) is None
    assert log.find("south", "PR8", utc(6, 5)) is None


def test_a_table_without_a_site_holds_for_any(tmp_path):
    log = read(tmp_path, "7,L1,PR8,2026-11-20T06:00,2026-11-20T06:10", header="truck_id,load_id,camera,from,until")
    assert log.find("anywhere", "PR8", utc(6, 5)).load_id == "L1"


def test_columns_can_have_the_names_of_the_yard_and_more_of_them(tmp_path):
    log = read(
        tmp_path,
        "x,7,L1,PR8,2026-11-20T06:00:00,2026-11-20T06:10:00",
        header="weather,Kennzeichen,load_id,Kran,from,until",
        columns={"truck_id": "Kennzeichen", "camera": "Kran"},
    )
    assert log.find("north", "PR8", utc(6, 5)).truck_id == "7"


@pytest.mark.parametrize(
    ("options", "missing"),
    [({"header": "truck_id,camera,from,until"}, "load_id"), ({"columns": {"supplier": "firm"}}, "firm")],
)
def test_a_column_that_is_not_there_is_named_beside_those_that_are(options, missing, tmp_path):
    with pytest.raises(
        SchemaError, match=rf"gate_log.csv has no column {missing}; it has truck_id, .*gate_log.columns"
    ):
        read(tmp_path, **options)


def test_a_missing_gate_log_is_an_error_before_any_work(tmp_path):
    with pytest.raises(StorageError, match="no such file"):
        read_gate_log(GateLogConfig(uri=str(tmp_path / "none.csv")), Storage())


def test_a_file_of_another_encoding_is_named(tmp_path):
    with pytest.raises(SchemaError, match="not readable as CSV in UTF-8"):
        read(tmp_path, "7,L1,Süd,north,PR8,a,b", encoding="latin-1")


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    log = read(tmp_path, "7,L1,,north,PR8,2026-11-20T06:00,2026-11-20T06:10", encoding="utf-8-sig")
    assert log.find("north", "PR8", utc(6, 5)).truck_id == "7"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("7,L1,,n,PR8,2026-11-20T06:10:00,2026-11-20T06:00:00", "record 2 left out: from .*06:10:00 is after until"),
        ("7,L1,,n,PR8,soon,2026-11-20T06:00:00", "record 2 left out: from is 'soon', not a time such as"),
        ("7,L1,,n,PR8,2026-11-20T06:00:00,", "record 2 left out: until is '', not a time"),
        ("7,,,n,PR8,2026-11-20T06:00:00,2026-11-20T06:10:00", "record 2 left out: load_id is empty"),
        (",L1,,n,PR8,2026-11-20T06:00:00,2026-11-20T06:10:00", "record 2 left out: truck_id is empty"),
        ("7,L1,,n, ,2026-11-20T06:00:00,2026-11-20T06:10:00", "record 2 left out: camera is empty"),
        ("7", "record 2 left out: load_id is empty"),
    ],
)
def test_a_wrong_record_is_left_out_and_reported_and_the_others_hold(line, fault, tmp_path):
    good = "8,L2,,n,PR8,2026-11-20T08:00:00,2026-11-20T08:10:00"
    log = read(tmp_path, good, line, good.replace("L2", "L3").replace("T08", "T09"))
    (told,) = log.faults
    assert re.match(fault, told)
    assert log.find("n", "PR8", utc(8, 5)).load_id == "L2"
    assert log.find("n", "PR8", utc(9, 5)).load_id == "L3"


def test_of_overlapping_records_the_one_that_came_later_gets_the_frames(tmp_path):
    log = read(
        tmp_path,
        "7,early,,n,PR8,2026-11-20T06:00:00,2026-11-20T07:00:00",
        "8,late,,n,PR8,2026-11-20T06:30:00,2026-11-20T06:40:00",
    )
    (fault,) = log.faults
    assert "records 1 and 2 overlap at PR8" in fault
    found = [log.find("n", "PR8", utc(6, minute)).load_id for minute in (10, 35, 50)]
    assert found == ["early", "late", "early"]


def test_records_that_touch_do_not_overlap(tmp_path):
    log = read(
        tmp_path,
        "7,L1,,north,PR8,2026-11-20T06:00:00,2026-11-20T06:10:00",
        "8,L2,,north,PR8,2026-11-20T06:10:00,2026-11-20T06:20:00",
    )
    assert log.faults == []
    assert log.find("north", "PR8", utc(6, 10)).load_id == "L2"


@pytest.mark.parametrize(
    ("begin", "end", "zone"),
    [
        ("2026-11-20T06:00:00", "9999-12-31T23:59:59", "America/New_York"),
        ("0001-01-01T00:00:00", "2026-11-20T06:00:00", "Europe/Rome"),
    ],
)
def test_a_record_that_ends_or_begins_with_the_calendar_is_left_out(begin, end, zone, tmp_path):
    log = read(
        tmp_path,
        f"7,L1,,north,PR8,{begin},{end}",
        "8,L2,,north,PR8,2026-11-20T06:10:00,2026-11-20T06:20:00",
        time_zone=zone,
    )
    assert len(log.faults) == 1 and log.faults[0].startswith("record 1 left out: ")


def test_every_record_that_overlaps_an_earlier_one_is_reported(tmp_path):
    log = read(
        tmp_path,
        "7,long,,n,PR8,2026-11-20T06:00:00,2026-11-20T09:00:00",
        "8,short,,n,PR8,2026-11-20T06:30:00,2026-11-20T06:40:00",
        "9,later,,n,PR8,2026-11-20T08:00:00,2026-11-20T08:10:00",
        "9,after,,n,PR8,2026-11-20T10:00:00,2026-11-20T10:10:00",
    )
    assert [fault.split(" overlap")[0] for fault in log.faults] == ["records 1 and 2", "records 1 and 3"]


def test_find_agrees_with_a_search_through_all_records():
    rng = random.Random(7)
    arrivals = []
    for record in range(200):
        begin = utc(0) + dt.timedelta(minutes=rng.randrange(1200))
        end = begin + dt.timedelta(minutes=rng.choice([1, 5, 300]))
        site, place = rng.choice(["n", "s", None]), rng.choice("AB")
        arrivals.append(Arrival(record, "t", f"L{record}", None, site, place, begin, end, begin.date()))
    log = GateLog(arrivals)
    for _ in range(500):
        site, place, moment = rng.choice("ns"), rng.choice("AB"), utc(0) + dt.timedelta(minutes=rng.randrange(1300))
        fits = [a for a in arrivals if a.place == place and a.from_utc <= moment <= a.until_utc]
        same_site = [a for a in fits if a.site == site] or [a for a in fits if a.site is None]
        expected = max(same_site, key=lambda a: (a.from_utc, a.record), default=None)
        assert log.find(site, place, moment) == expected


def test_times_are_local_unless_they_say_otherwise(tmp_path):
    log = read(
        tmp_path,
        "7,local,,n,PR8,2026-11-20T06:00:00,2026-11-20T06:10:00",
        "8,told,,n,PR8,2026-11-20T08:00:00+00:00,2026-11-20T08:10:00Z",
        time_zone="Europe/Rome",
    )
    assert log.find("n", "PR8", utc(5, 5)).load_id == "local"
    assert log.find("n", "PR8", utc(8, 5)).load_id == "told"


def test_a_record_within_the_hour_that_comes_twice_does_not_end_before_it_begins(tmp_path):
    log = read(
        tmp_path,
        "7,across,,n,PR8,2026-10-25T02:50:00,2026-10-25T02:10:00",
        "8,first,,n,PR9,2026-10-25T02:10:00,2026-10-25T02:50:00",
        time_zone="Europe/Rome",
    )
    assert log.faults == []
    across, first = log.find("n", "PR8", MIDDLE), log.find("n", "PR9", MIDDLE - dt.timedelta(minutes=30))
    assert across.until_utc - across.from_utc == dt.timedelta(minutes=20)
    assert first.until_utc - first.from_utc == dt.timedelta(minutes=40)


def test_a_load_over_midnight_has_the_local_date_of_its_first_moment(tmp_path):
    line = "7,L1,,n,PR8,2026-11-20T23:50:00,2026-11-21T00:10:00"
    arrival = read(tmp_path, line, time_zone="Europe/Rome").find("n", "PR8", utc(23, 5))
    assert arrival.date == dt.date(2026, 11, 20)


def test_parquet_is_read_like_csv(tmp_path):
    path = tmp_path / "log.parquet"
    table = {"truck_id": ["0007"], "load_id": [12], "camera": ["PR8"], "from": [utc(6)], "until": ["2026-11-20T06:10Z"]}
    pq.write_table(pa.table(table), path)
    arrival = read_gate_log(GateLogConfig(uri=str(path)), Storage()).find("n", "PR8", utc(6, 5))
    assert (arrival.truck_id, arrival.load_id) == ("0007", "12")


def read_parquet(tmp_path, **columns):
    path = tmp_path / "log.parquet"
    whole = {"truck_id": ["7"], "load_id": ["L1"], "camera": ["c"], "from": [utc(6)], "until": [utc(7)]} | columns
    pq.write_table(pa.table(whole), path)
    return read_gate_log(GateLogConfig(uri=str(path)), Storage())


@pytest.mark.parametrize(
    ("cell", "text"), [(7, "7"), (7.0, "7"), (7.5, "7.5"), (b" 7 ", "7"), ("Süd".encode(), "Süd"), ("7.0", "7.0")]
)
def test_a_cell_of_any_type_is_read_as_the_yard_would_write_it(cell, text, tmp_path):
    log = read_parquet(tmp_path, truck_id=[cell], load_id=[cell], supplier=[cell], camera=[cell], site=[cell])
    arrival = log.find(text, text, utc(6))
    assert (arrival.truck_id, arrival.load_id, arrival.supplier) == (text, text, text)


def test_a_time_in_bytes_is_read(tmp_path):
    assert read_parquet(tmp_path, until=[b"2026-11-20T08:00Z"]).find("n", "c", utc(8)).load_id == "L1"


@pytest.mark.parametrize("empty", [None, float("nan"), b" ", ""])
def test_an_empty_cell_is_no_supplier_and_no_site(empty, tmp_path):
    arrival = read_parquet(tmp_path, supplier=[empty], site=[empty]).find("anywhere", "c", utc(6))
    assert (arrival.supplier, arrival.site) == (None, None)


@pytest.mark.parametrize(
    ("cells", "fault"),
    [([7.0, float("nan")], "truck_id is empty"), ([b"7", b"\xff"], r"truck_id is b'\xff', not UTF-8")],
)
def test_a_truck_that_cannot_be_told_costs_its_record_only(cells, fault, tmp_path):
    twice = {"load_id": ["L1", "L2"], "camera": ["c", "c"], "from": [utc(6), utc(8)], "until": [utc(7), utc(9)]}
    log = read_parquet(tmp_path, truck_id=cells, **twice)
    assert log.faults == [f"record 2 left out: {fault}"]
    assert log.find("n", "c", utc(6)).truck_id == "7"


def test_a_table_of_wrong_records_alone_is_refused_with_the_first_fault(tmp_path):
    lines = [f"7,L{number},,n,c,20.11.2026 0{number}:00,20.11.2026 0{number}:30" for number in (6, 7)]
    with pytest.raises(
        SchemaError, match=r"no record of gate log .*csv can be read; record 1 left out: from is '20.11.2026 06:00'"
    ):
        read(tmp_path, *lines)


def test_a_table_without_records_is_that_of_a_night_without_trucks(tmp_path):
    assert read(tmp_path).find("n", "c", utc(6)) is None


def test_broken_parquet_is_named(tmp_path):
    path = tmp_path / "log.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(SchemaError, match=r"log\.parquet is not readable as Parquet"):
        read_gate_log(GateLogConfig(uri=str(path)), Storage())


def test_a_load_has_the_date_of_its_site_whatever_the_zone_of_its_times(tmp_path):
    path = tmp_path / "gate_log.csv"
    lines = [
        "7,L1,,n,c,2026-11-19T23:30:00,2026-11-19T23:50:00",
        "8,L2,,n,d,2026-11-20T01:30+01:00,2026-11-20T02:00+01:00",
    ]
    path.write_text("\n".join([HEADER, *lines]), encoding="utf-8")
    log = read_gate_log(GateLogConfig(uri=str(path), time_zone="UTC"), Storage(), "Asia/Tokyo")
    assert log.find("n", "c", utc(23, 35, day=19)).date == dt.date(2026, 11, 20)
    assert log.find("n", "d", utc(0, 35)).date == dt.date(2026, 11, 20)
    assert log.find("n", "c", utc(23, 35, day=19)).from_utc == utc(23, 30, day=19)


def test_a_time_beyond_the_calendar_costs_its_record_only(tmp_path):
    endless = 2**62
    moments = pa.array([int(utc(6).timestamp() * 1e6), endless], pa.int64()).cast(pa.timestamp("us"))
    names = {"truck_id": ["1", "2"], "load_id": ["L1", "L2"], "camera": ["c", "c"]}
    pq.write_table(pa.table({**names, "from": moments, "until": moments}), tmp_path / "log.parquet")
    log = read_gate_log(GateLogConfig(uri=str(tmp_path / "log.parquet")), Storage())
    assert log.find("n", "c", utc(6)).load_id == "L1"
    assert log.faults == [f"record 2 left out: from is {endless}, not a time such as 2026-11-20T06:30:00"]
