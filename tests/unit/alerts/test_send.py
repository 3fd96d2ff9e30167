"""Alerts of nights in a lake, told to real servers of this machine: never twice, never lost, never in the way."""

import base64
import datetime as dt
import itertools
import json
import socket
from collections import Counter

import pytest

from scrapray.alerts.outbox import Outbox
from scrapray.alerts.send import send_alerts
from scrapray.errors import StorageError
from scrapray.recipients import AlertsConfig, EmailConfig, WebhookConfig
from scrapray.storage import Storage
from tests.fixtures.receivers import MailReceiver, WebReceiver
from tests.unit.alerts.nights import CREATED_UTC, NIGHT, SITE, clean, load_row, publish

TWO = [clean("L001"), load_row()]
WEBHOOK = WebhookConfig(url_env="HOOK_URL", secret_env="HOOK_SECRET")
BY_WEBHOOK = AlertsConfig(webhook=WEBHOOK)
SECRET = base64.b64encode(bytes(32)).decode()


@pytest.fixture
def lake(tmp_path):
    return str(tmp_path / "lake")


@pytest.fixture
def hook(web_receiver: WebReceiver, monkeypatch):
    monkeypatch.setenv("HOOK_URL", web_receiver.url)
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    return web_receiver


def tell(lake, config=BY_WEBHOOK, nights=((NIGHT, SITE),), later=dt.timedelta(), storage=None, **options):
    """One run; gives its report and the pauses that it made."""
    pauses = []
    report = send_alerts(
        lake,
        nights,
        config=config,
        storage=storage or Storage(),
        now_utc=CREATED_UTC + later,
        pause=pauses.append,
        **options,
    )
    return report, pauses


def audit(lake, loads, config=BY_WEBHOOK, **run):
    publish(lake, loads, **run)
    return tell(lake, config)[0]


def texts(hook):
    return [json.loads(body)["text"].partition(": ")[0] for body in hook.bodies]


# ---- never twice ------------------------------------------------------------------------------------------------


def test_a_night_is_told_once_however_often_it_is_audited(lake, hook):
    assert audit(lake, TWO).outcomes == {("webhook", "sent"): 2}
    report = audit(lake, TWO, run_id="another run")
    assert (report.outcomes, str(report)) == ({}, "nothing new to tell")
    assert len(hook.bodies) == 2


def test_a_changed_verdict_is_told_again_and_so_is_one_that_changed_back(lake, hook):
    for loads in (TWO, [clean("L001"), load_row(verdict="review")], TWO):
        audit(lake, loads)
    loads = [json.loads(body) for body in hook.bodies if b'"kind": "load"' in body]
    assert [(load["number"], load["previous_verdict"], load["verdict"]) for load in loads] == [
        (1, None, "reject"),
        (2, "reject", "review"),
        (3, "review", "reject"),
    ]
    assert len({load["id"] for load in loads}) == 3


def test_sites_and_dates_are_told_apart(lake, hook):
    nights = [(NIGHT, SITE), (NIGHT, "a/b ü"), (NIGHT + dt.timedelta(days=1), SITE)]
    for date, site in nights:
        publish(lake, [load_row()], date=date, site=site)
    assert tell(lake, nights=nights)[0].outcomes == {("webhook", "sent"): 6}
    assert tell(lake, nights=nights)[0].outcomes == {}
    assert len({json.loads(body)["id"] for body in hook.bodies}) == 6


def test_a_way_that_is_added_later_is_not_told_old_news(lake, hook, tmp_path):
    audit(lake, TWO)
    both = AlertsConfig(webhook=WEBHOOK, file=str(tmp_path / "alerts.jsonl"))
    assert audit(lake, TWO, both).outcomes == {}


def test_without_alerts_in_the_settings_nothing_is_sent_and_nothing_noted(lake):
    publish(lake, TWO)
    assert tell(lake, AlertsConfig())[0] is None
    assert Storage().list_names(f"{lake}/_alerts") == []


# ---- tried again ------------------------------------------------------------------------------------------------


def test_a_server_that_recovers_in_time_is_told_in_the_same_run(lake, hook):
    hook.statuses = [429, 500, 200]
    publish(lake, TWO)
    report, pauses = tell(lake)
    assert report.outcomes == {("webhook", "sent"): 2}
    assert pauses == [1, 2]
    ids = [json.loads(body)["id"] for body in hook.bodies]
    assert ids[0] == ids[1] == ids[2] != ids[3]


def test_a_server_that_is_down_costs_the_tries_of_one_message_and_is_asked_again_by_the_next_run(lake, hook):
    hook.statuses = [500]
    publish(lake, [load_row(f"L{number}") for number in range(9)])
    report, pauses = tell(lake)
    assert str(report) == "webhook: 10 not sent, the next run tries again (127.0.0.1 answered 500)"
    assert (len(hook.bodies), pauses) == (4, [1, 2, 4])
    hook.statuses = [200]
    assert tell(lake)[0].outcomes == {("webhook", "sent"): 10}
    assert tell(lake)[0].outcomes == {}
    assert len(set(hook.bodies)) == 10, "the tries of one message have the same bytes"


def test_the_run_of_another_night_tells_what_waits(lake, hook):
    hook.statuses = [503]
    audit(lake, TWO)
    hook.statuses = [200]
    other = NIGHT + dt.timedelta(days=1)
    publish(lake, [], date=other)
    hook.bodies.clear()
    assert tell(lake, nights=[(other, SITE)])[0].outcomes == {("webhook", "sent"): 3}
    assert [json.loads(body)["date"] for body in hook.bodies] == [str(NIGHT), str(NIGHT), str(other)]


def test_one_message_that_is_refused_does_not_keep_others_from_going(lake, hook):
    hook.statuses = [400, 200]
    assert audit(lake, TWO).outcomes == {
        ("webhook", "not sent, the next run tries again (127.0.0.1 answered 400)"): 1,
        ("webhook", "sent"): 1,
    }


def test_a_server_that_never_answers_does_not_hold_up_the_audit(lake, monkeypatch):
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HOOK_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/?key=hidden")
        report = audit(lake, TWO, AlertsConfig(webhook=WEBHOOK, timeout_s=0.1, max_attempts=2))
    assert "webhook: 2 not sent, the next run tries again (127.0.0.1 did not answer within 0.1 s" in str(report)
    assert "hidden" not in str(report)


def test_a_server_that_is_slow_each_time_gets_no_more_than_its_time_in_one_run(lake, hook):
    publish(lake, [load_row(f"L{number}") for number in range(9)])
    told = [tell(lake, clock=itertools.count(0, 100).__next__)[0].outcomes for _ in range(4)]
    left = "not sent, the next run tries again (the 300 s that a run gives this way are used up)"
    assert told == [
        {("webhook", "sent"): 4, ("webhook", left): 6},
        {("webhook", "sent"): 4, ("webhook", left): 2},
        {("webhook", "sent"): 2},
        {},
    ]


def test_news_that_waited_while_the_verdict_changed_come_in_their_order(lake, hook):
    hook.statuses = [500]
    audit(lake, TWO)
    hook.bodies.clear()
    hook.statuses = [200]
    audit(lake, [clean("L001"), clean("L003")])
    assert texts(hook) == ["reject", f"{SITE} {NIGHT}", "accept, was reject", "changed"]


def test_what_waited_comes_the_worst_load_first_and_the_night_last(lake, hook):
    hook.statuses = [400]
    names = [f"L{number}" for number in range(6)]
    audit(lake, [load_row(name, contamination_frac=0.1 - 0.01 * place) for place, name in enumerate(names)])
    hook.bodies.clear()
    tell(lake)
    assert [json.loads(body).get("load_id") for body in hook.bodies] == [*names, None]


def test_after_two_weeks_a_message_is_given_up_and_the_report_says_so(lake, hook):
    hook.statuses = [500]
    audit(lake, TWO)
    report, _ = tell(lake, nights=[], later=dt.timedelta(days=14, seconds=1))
    assert str(report) == "webhook: 2 given up after 14 days (127.0.0.1 answered 500)"
    hook.statuses = [200]
    assert tell(lake)[0].outcomes == {}


def test_a_way_that_was_removed_from_the_settings_is_not_waited_for(lake, hook, tmp_path):
    hook.statuses = [500]
    audit(lake, TWO)
    report = audit(lake, TWO, AlertsConfig(file=str(tmp_path / "alerts.jsonl")))
    assert str(report) == "webhook: 2 dropped, not configured now"
    assert Outbox(lake, Storage()).waiting() == []


# ---- several ways -----------------------------------------------------------------------------------------------


@pytest.fixture
def all_ways(hook, mail_receiver: MailReceiver, tmp_path):
    email = EmailConfig(
        host="127.0.0.1",
        port=mail_receiver.port,
        security="none",
        sender="a@example.com",
        recipients=("b@example.com",),
    )
    return AlertsConfig(webhook=WEBHOOK, email=email, file=str(tmp_path / "log" / "alerts.jsonl"))


def test_a_message_goes_every_way(lake, hook, mail_receiver, all_ways, tmp_path):
    report = audit(lake, TWO, all_ways)
    assert str(report) == "webhook: 2 sent; email: 2 sent; file: 2 sent"
    lines = (tmp_path / "log" / "alerts.jsonl").read_bytes().splitlines()
    assert lines == hook.bodies
    assert [letter["Message-ID"] for letter in mail_receiver.letters] == [
        f"<{json.loads(line)['id']}@example.com>" for line in lines
    ]


def test_only_the_way_that_failed_is_tried_again(lake, hook, mail_receiver, all_ways, tmp_path):
    mail_receiver.answers["DATA"] = "554 not today"
    report = audit(lake, TWO, all_ways)
    failed = "not sent, the next run tries again (127.0.0.1 answered 554 not today)"
    assert report.outcomes == {("webhook", "sent"): 2, ("email", failed): 2, ("file", "sent"): 2}
    mail_receiver.answers.clear()
    assert {reason for entry in Outbox(lake, Storage()).waiting() for reason in entry.failed.values()} == {
        "127.0.0.1 answered 554 not today"
    }
    assert audit(lake, TWO, all_ways).outcomes == {("email", "sent"): 2}
    records = [json.loads(Storage().read_bytes(uri)) for uri in Storage().list_names(f"{lake}/_alerts")]
    assert [record["failed"] for record in records] == [{}, {}]
    assert len(hook.bodies) == len(mail_receiver.letters) == 2


def test_what_was_sent_is_recorded_with_its_times_and_without_addresses(lake, all_ways):
    audit(lake, TWO, all_ways)
    names = Storage().list_names(f"{lake}/_alerts")
    assert all(f"/date={NIGHT}/site={SITE}/" in name for name in names)
    for name in names:
        record = json.loads(Storage().read_bytes(name))
        assert set(record["sent_utc"]) == {"webhook", "email", "file"}
        assert (record["waiting_for"], record["failed"]) == ([], {})
        assert not [secret for secret in ("T0K3N", "hidden", SECRET, "@") if secret in json.dumps(record)]


# ---- killed, or without a lake ----------------------------------------------------------------------------------


class DiesAtWrite(Storage):
    """Storage of a run that is killed at its n-th write below ``_alerts``, counted from 0."""

    def __init__(self, fatal):
        super().__init__()
        self.left = fatal

    def write_bytes(self, uri, data):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        super().write_bytes(uri, data)

    def delete(self, uri):
        if self.left == 0:
            raise KeyboardInterrupt
        super().delete(uri)


@pytest.mark.parametrize("fatal", range(9))
def test_a_run_killed_anywhere_loses_nothing_and_repeats_one_message_by_one_way_at_most(fatal, lake, hook, tmp_path):
    log = tmp_path / "alerts.jsonl"
    both = AlertsConfig(webhook=WEBHOOK, file=str(log))
    publish(lake, TWO)
    is_killed = False
    try:
        tell(lake, both, storage=DiesAtWrite(fatal))
    except KeyboardInterrupt:
        is_killed = True
    assert is_killed == (fatal <= 6)
    tell(lake, both)
    assert tell(lake, both)[0].outcomes == {}
    told = {"webhook": Counter(hook.bodies), "file": Counter(log.read_bytes().splitlines())}
    assert all(len(each) == 2 for each in told.values()), "nothing is lost"
    # Only between sending and writing that down: after the second and third, and after the fifth write.
    assert sum(each.total() - 2 for each in told.values()) == (fatal in (2, 3, 5))
    assert Outbox(lake, Storage()).waiting() == []


def test_what_another_run_is_just_sending_is_left_to_it(lake, hook):
    publish(lake, TWO)
    with pytest.raises(KeyboardInterrupt):
        tell(lake, storage=DiesAtWrite(2))
    hook.bodies.clear()
    assert tell(lake, nights=[], later=dt.timedelta(minutes=15))[0].outcomes == {}
    assert tell(lake, nights=[], later=dt.timedelta(minutes=15, seconds=1))[0].outcomes == {("webhook", "sent"): 2}


class Cleared(Storage):
    """A lake in which another run clears away what waits, just after this one has listed it."""

    def list_names(self, uri):
        names = super().list_names(uri)
        for name in names:
            if "/waiting/" in name:
                self.delete(name)
        return names


def test_what_another_run_has_just_cleared_away_stops_nothing(lake, hook):
    hook.statuses = [500]
    audit(lake, TWO)
    hook.statuses = [200]
    other = NIGHT + dt.timedelta(days=1)
    publish(lake, TWO, date=other)
    report, _ = tell(lake, nights=[(other, SITE)], storage=Cleared())
    assert str(report) == "webhook: 2 sent"


class Unwritable(Storage):
    """A lake in which alerts cannot be noted."""

    def write_bytes(self, uri, data):
        raise StorageError(f"cannot write {uri}: the disk is full; make room", reason="disk_full")


def test_what_cannot_be_noted_is_not_sent_and_the_report_says_why(lake, hook):
    publish(lake, TWO)
    report, _ = tell(lake, storage=Unwritable())
    assert "stopped, give the same command again: cannot write" in str(report)
    assert "the disk is full" in str(report)
    assert hook.bodies == []
    assert tell(lake)[0].outcomes == {("webhook", "sent"): 2}


def test_records_that_are_none_are_named_and_keep_nobody_from_knowing(lake, hook):
    contents = [b"", b"[]", b"{}", b'{"message": {}, "waiting_for": []}', b'{"message": {}, "waiting_for": [[]]}']
    for folder in ("waiting", f"date={NIGHT}/site={SITE}"):
        for number, content in enumerate(contents):
            Storage().write_bytes(f"{lake}/_alerts/{folder}/{number}.json", content)
    report = audit(lake, TWO)
    assert report.outcomes == {("webhook", "sent"): 2}
    assert f"passed over: {lake}/_alerts/waiting/0.json is no record of an alert; delete it (10 such" in str(report)


def test_records_with_a_broken_field_are_passed_over_and_told_anew_by_their_night(lake, hook):
    hook.statuses = [500]
    audit(lake, TWO)
    for uri in Storage().list_names(f"{lake}/_alerts/waiting"):
        record = json.loads(Storage().read_bytes(uri))
        for change in [
            {"date": "20 Nov"},
            {"created_utc": "2026-11-21T03:12:44"},
            {"number": "1"},
            {"site": None},
            {"kind": "truck"},
            {"weights_sha256": []},
        ]:
            broken = json.dumps(record | {"message": record["message"] | change}).encode()
            Storage().write_bytes(f"{lake}/_alerts/waiting/{next(iter(change))}.json", broken)
        Storage().write_bytes(uri, broken)
    hook.statuses = [200]
    report, _ = tell(lake)
    assert report.outcomes == {("webhook", "sent"): 2}
    assert "(8 such files)" in str(report)
    assert "(6 such files)" in str(tell(lake)[0])


def test_what_a_file_manager_leaves_among_the_records_is_none_of_ours(lake, hook):
    Storage().write_bytes(f"{lake}/_alerts/waiting/.DS_Store", b"\0\1")
    assert str(audit(lake, TWO)) == "webhook: 2 sent"


def test_a_variable_that_is_not_set_fails_no_audit(lake, hook, monkeypatch):
    monkeypatch.delenv("HOOK_SECRET")
    assert "(the environment variable HOOK_SECRET is not set; make one with:" in str(audit(lake, TWO))
    assert hook.bodies == []
