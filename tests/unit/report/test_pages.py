"""The pages as a browser reads them: what they say, where their links lead, and that nothing gets out of a name."""

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from scrapray.lake import partition_uri
from scrapray.report.evidence import PICTURES, choose_evidence
from scrapray.report.names import PAGE
from scrapray.report.night import read_before, read_night
from scrapray.report.pages import INDEX, Report, load_page, render
from scrapray.review.config import QueueConfig
from scrapray.review.exports import export_queue
from scrapray.review.imports import import_reviews
from tests.unit.report.nights import CABLE, CAN, MOTOR, NIGHT, STORAGE, Yard, two_loads
from tests.unit.report.test_names import HOSTILE

VOID = {"meta", "link", "img", "input", "br"}
INLINE = {"a", "bdi", "strong", "i"}


class Page(HTMLParser):
    """Tags with their attributes, the text, and the tags that were opened or closed out of turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.torn = "", []
        self._open: list[str] = []
        self.feed(html)
        self.torn += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += "" if tag in INLINE else " "
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.torn.append(f"/{tag}")
        self.text += "" if tag in INLINE else " "

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, *names: str) -> Iterator[str]:
        """Of attributes with these names."""
        return (value for _, attributes in self.tags for name, value in attributes.items() if name in names and value)

    @property
    def words(self) -> str:
        """The text, with plain spaces."""
        return " ".join(self.text.split())


def report_of(yard: Yard, **changes: object) -> Report:
    yard.publish()
    night = read_night(yard.lake, NIGHT, STORAGE)
    past, unreadable = read_before(yard.lake, NIGHT, STORAGE)
    evidence = {load.key: choose_evidence(load) for load in night.loads}
    return Report(night=night, past=past, unreadable=unreadable, evidence=evidence, **changes)


def pages_of(report: Report) -> dict[str, Page]:
    return {name: Page(text) for name, text in render(report) if name.endswith(".html")}


def worst(report: Report, pages: dict[str, Page]) -> Page:
    return pages[load_page(report.night.loads[0])]


def test_every_page_is_whole_and_every_link_leads_to_a_page_or_a_place_on_it(tmp_path: Path) -> None:
    report = report_of(two_loads(tmp_path))
    pages = pages_of(report)
    assert len(pages) == 1 + 2 + 2
    pictures = {view.name for evidence in report.evidence.values() for view in evidence.views}
    for name, page in pages.items():
        assert page.torn == []
        for link in page.values("href", "src"):
            target = "/".join([*name.split("/")[:-1], link]) if link[0] not in "#." else link.removeprefix("../")
            if link.startswith("#"):
                assert link[1:] in list(page.values("id"))
            elif target.startswith(PICTURES):
                assert target.partition("/")[2] in pictures
            elif link != "data:,":
                assert target in {*pages, "style.css"}


def test_the_night_says_how_many_what_and_where_first(tmp_path: Path) -> None:
    yard = two_loads(tmp_path)
    yard.add_rejected("quality", "blurred", "crane-1", load=1)
    report = report_of(yard)
    page = pages_of(report)[INDEX]
    for words in (
        "Night of 20 November 2026",
        "1 load with a contaminant of the highest severity",
        "spray can (1 or more), motor (in one frame only), cable (in one frame only). Supplier Bora, 06:20:00",
        "Loads 2 Reject 1 Review 0 Accept 1",
        "Frames used 6 of 7",
        "1.024 % 0.000 to 2.000 %",
        "crane-1, north 7 1 (14 %) blurred: 1",
        "None of the 30 nights before is published",
    ):
        assert words in page.words
    assert page.words.index("Bora 1 1 0 1.536 %") < page.words.index("Alba 1 0 0 0.000 %")
    links = [link for link in page.values("href") if link.startswith("loads/")]
    assert links[0] == load_page(report.night.loads[0])


def reviewed(yard: Yard, keep: Sequence[str]) -> Report:
    """The report once somebody has looked at all frames and has left marks of these classes only."""
    yard.publish()
    quotas = QueueConfig(random_sample=100)
    now_utc = dt.datetime(2026, 11, 21, 8, tzinfo=dt.UTC)
    file = json.loads(export_queue(yard.lake, NIGHT, quotas=quotas, storage=STORAGE, now_utc=now_utc).data)
    names = {each["id"]: each["name"] for each in file["categories"]}
    file["annotations"] = [mark for mark in file["annotations"] if names[mark["category_id"]] in keep]
    import_reviews(yard.lake, json.dumps(file).encode(), "ada", source="x", storage=STORAGE, now_utc=now_utc)
    return report_of(yard)


def test_what_people_say_stands_beside_what_the_machine_says(tmp_path: Path) -> None:
    report = reviewed(two_loads(tmp_path), keep=[])
    pages = pages_of(report)
    for words in (
        "People have looked at 2 loads, and say another verdict of 1.",
        "Supplier Bora, 06:20:00; people: Accept",
        "Reject people: Accept Truck 0008, load L2",
        "Loads 2 Reject 1",
    ):
        assert words in pages[INDEX].words
    for words in (
        "Reject Truck 0008, load L2",
        "People have looked: Accept",
        "4 of 4 usable frames reviewed by ada, last on 21 November 2026.",
    ):
        assert words in worst(report, pages).words


def test_a_load_in_which_people_alone_have_seen_the_worst_is_an_alert(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.add_load("0007", "L1", [[CAN], []], supplier="Alba", worst_severity=0, verdict="accept")
    report = reviewed(yard, keep=["spray can"])
    assert "1 load with a contaminant of the highest severity" in pages_of(report)[INDEX].words
    assert "people: Reject" in pages_of(report)[INDEX].words


def test_reviews_of_a_run_with_settings_of_another_version_leave_the_night_as_it_is_and_say_so(tmp_path: Path) -> None:
    yard = two_loads(tmp_path)
    reviewed(yard, keep=[])
    yard.settings = '{"verdict": {"rules": [], "old_key": 3}}'
    page = pages_of(report_of(yard))[INDEX]
    assert "reviews cannot be read: [verdict] of run run-a: unknown key old_key" in page.words


def test_reviews_that_cannot_be_read_leave_the_night_as_it_is_and_say_so(tmp_path: Path) -> None:
    yard = two_loads(tmp_path)
    reviewed(yard, keep=[])
    for file in (Path(yard.lake) / "reviews").iterdir():
        file.write_bytes(b"no table")
    page = pages_of(report_of(yard))[INDEX]
    assert "north: all verdicts are the machine's, since reviews cannot be read" in page.words
    assert "People have looked" not in page.words


def test_the_page_of_a_load_shows_its_evidence_its_rule_and_its_origin(tmp_path: Path) -> None:
    report = report_of(two_loads(tmp_path))
    page = worst(report, pages_of(report))
    for words in (
        "Reject Truck 0008, load L2",
        "Why: highest severity severity 3 The rule: reject where severity 3 or more.",
        "1 spray can, score 0.90 severity 3 of 3: stop the truck 48 × 32 px, 1.536 % of the bed 06:20:00, upper left",
        "By model x, version x, weights x. Audit run run-a",
        "checked by SHA-256 as each was cut",
        "what has become of the files in the archive since is not asked",
        "06:20:00, camera crane-1: 2 detections. Frame of 480 × 270 px.",
    ):
        assert words in page.words
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert "Close-up of a spray can, number 1" in alts
    assert all(alts)
    corners = {frozenset(points.split()) for points in page.values("points")}
    assert frozenset(["40,30", "88,30", "88,62", "40,62"]) in corners
    switches = [attributes["id"] for tag, attributes in page.tags if tag == "input"]
    assert switches == ["show-1", "show-2", "show-3", "show-tags"]
    assert next(attributes for tag, attributes in page.tags if attributes.get("class") == "plot")["aria-label"]


def test_what_has_no_close_up_is_said_and_listed(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.add_load("0007", "L1", [[("motor", 0.5 + 0.01 * number) for number in range(20)]])
    report = report_of(yard)
    page = worst(report, pages_of(report))
    assert "8 of 20 detections have no close-up here" in page.words
    assert "On paper: the first 8 of 12 close-ups" in page.words
    assert page.words.count("of the frame") == 12
    assert sum(tag == "tr" for tag, _ in page.tags) == 2 + 1 + 20


def test_a_frame_that_is_gone_is_told_in_its_place(tmp_path: Path) -> None:
    whole = report_of(two_loads(tmp_path))
    views = [view for view in whole.evidence["north", "0008", "L2"].views if view.frame["frame_id"] == "north-2"]
    report = replace(whole, faults={view.name: "missing" for view in views})
    pages = pages_of(report)
    page = worst(report, pages)
    assert page.words.count("This frame is no longer in the archive.") == 3  # whole, and two close-ups
    assert "1 spray can, score 0.90" in page.words
    sources = {source.rpartition("/")[2] for one in pages.values() for source in one.values("src")}
    assert sources
    assert not sources & set(report.faults)


def test_a_load_that_nobody_saw_has_a_page(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.add_load(None, "L1", [], verdict="review", verdict_rule="nothing_seen", coverage_frac=None)
    yard.add_rejected("quality", "too_dark", load=0)
    report = report_of(yard)
    page = worst(report, pages_of(report))
    for words in (
        "Truck not known, load L1",
        "Contamination not known no interval",
        "Seen nothing: no frame could be used",
        "No frame of this load could be opened",
        "1 frame in the order of time, 0 of them usable.",
        "no: too dark",
    ):
        assert words in page.words


def test_a_frame_that_was_left_out_is_shown_with_the_reason(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.add_load("0007", "L1", [[]], num_used=0, verdict="review", verdict_rule="nothing_seen")
    yard.rows["frames"][0] |= {"status": "rejected", "reject_stage": "quality", "reject_reason": "too_dark"}
    report = report_of(yard)
    page = worst(report, pages_of(report))
    assert "06:20:00, camera crane-1: not used, too dark. Frame of 480 × 270 px." in page.words


def test_a_night_without_loads_has_a_page_that_says_so(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.add_rejected("manifest", "key_mismatch", None)
    pages = pages_of(report_of(yard))
    assert list(pages) == [INDEX]
    assert "north: model x, version x, weights x. Audit run run-a" in pages[INDEX].words
    assert "No load was published for this night. 1 frame came, none of which belongs to a load." in pages[INDEX].words
    assert "file name not understood: 1" in pages[INDEX].words


def test_a_night_without_loads_is_held_against_those_before(tmp_path: Path) -> None:
    two_loads(tmp_path, date=NIGHT.replace(day=18), run_id="run-before").publish()
    Yard(tmp_path, date=NIGHT.replace(day=19), run_id="run-empty").publish()
    yard = Yard(tmp_path)
    page = pages_of(report_of(yard))[INDEX]
    assert "No frame came either." in page.words
    assert "Loads 0 1 0 to 2" in page.words
    assert "Contamination not known 1.024 % 1.024 % to 1.024 %" in page.words
    assert "1 night with loads. Highest 1.024 % on 18 November 2026" in page.words


def test_what_is_wrong_with_the_tables_stands_on_the_page(tmp_path: Path) -> None:
    two_loads(tmp_path).publish()
    report = report_of(two_loads(tmp_path))
    notice = "north: the tables of this night do not belong together"
    site = report.night.sites[0]
    object.__setattr__(site, "notice", notice)
    pages = pages_of(report)
    assert notice in pages[INDEX].words
    assert notice in worst(report, pages).words


def test_of_a_site_that_cannot_be_shown_nothing_is_said_but_that(tmp_path: Path) -> None:
    two_loads(tmp_path, date=NIGHT.replace(day=19), run_id="run-before").publish()
    yard = two_loads(tmp_path)
    yard.publish()
    STORAGE.delete(partition_uri(yard.lake, "loads", NIGHT, yard.site))
    night = read_night(yard.lake, NIGHT, STORAGE)
    past, unreadable = read_before(yard.lake, NIGHT, STORAGE)
    page = pages_of(Report(night=night, past=past, unreadable=unreadable, evidence={}))[INDEX]
    assert "shows nothing of this site" in page.words
    assert "No load was published" not in page.words
    assert "it is not compared" in page.words
    assert "This night beside" not in page.words


def test_the_nights_before_make_a_comparison_and_a_trend(tmp_path: Path) -> None:
    for day in (1, 2, 4):
        date = NIGHT.replace(day=NIGHT.day - day)
        before = Yard(tmp_path, date=date, run_id=f"run-{day}")
        before.add_load("0001", "L0", [[CABLE], [CABLE]], supplier="Bora")
        before.add_load("0002", "L1", [[]] * day, supplier="Alba")
        before.publish()
    pages = pages_of(report_of(two_loads(tmp_path)))
    words = pages[INDEX].words
    assert "This night beside the last 3 nights with tables" in words
    assert "Loads to review 0 % 50 % 50 % to 50 %" in words
    (bora,) = (page for name, page in pages.items() if name.startswith("suppliers/supplier-bora"))
    for shown in ("16 November 2026 1 0 1 1.536 % 0.000 to 2.000 %", "4 nights with loads. Highest"):
        assert shown in bora.words


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Report:
    yard = Yard(tmp_path_factory.mktemp("hostile"), site='"><script>site()</script>')
    for number, words in enumerate(HOSTILE):
        yard.add_load(words, f"{words}{number}", [[MOTOR], [MOTOR, CAN]] if number % 2 else [[]], supplier=words)
    return report_of(yard)


def test_nothing_that_stands_in_a_key_becomes_part_of_a_page(hostile: Report) -> None:
    pages = pages_of(hostile)
    assert len(pages) == 1 + 2 * len(HOSTILE)
    for page in pages.values():
        assert page.torn == []
        assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object", "form", "base"})
        assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
        assert "\u202e" not in page.text
    assert "<script>alert(1)</script>" in pages[INDEX].text


def test_hostile_names_lead_to_no_place_but_the_folders_of_the_report(hostile: Report) -> None:
    for name, _ in render(hostile):
        folder, _, file = name.rpartition("/")
        assert folder in ("", "loads", "suppliers")
        assert not folder or PAGE.fullmatch(file)
    pages = pages_of(hostile)
    for page in pages.values():
        for link in page.values("href", "src"):
            assert link.removeprefix("../").startswith(
                ("loads/", "suppliers/", PICTURES, "#", "style.css", "index.html", "data:,")
            )


def test_the_longest_name_does_not_fill_a_page(hostile: Report) -> None:
    assert max(len(page.text) for page in pages_of(hostile).values()) < 20_000


def test_the_same_night_gives_the_same_pages(tmp_path: Path) -> None:
    yard = two_loads(tmp_path)
    yard.rows["loads"][0]["supplier"], yard.rows["loads"][1]["supplier"] = "unknown", None
    report = report_of(yard)
    assert list(render(report)) == list(render(report))
    words = " ".join(page.words for page in pages_of(report).values())
    assert ("Supplier unknown" in words, "Supplier not known" in words) == (True, True)  # one has that name
