"""A report as a person sees it: opened from the disk in a real browser, on a phone and on a large screen."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from scrapray.report.nightly import write_report
from tests.unit.report import nights
from tests.unit.report.nights import CABLE, CAN, MOTOR, NIGHT, STORAGE, Yard

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}: apt-get install chromium")

HOSTILE = "<script>document.title='taken'</script>"
PHONE, SCREEN = {"width": 390, "height": 844}, {"width": 1440, "height": 900}
FAINT_WORDS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = css => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = css; canvas.fillRect(0, 0, 1, 1);
                        return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
      .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
      .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const paper = e => { for (; e; e = e.parentElement) {
      const color = rgba(getComputedStyle(e).backgroundColor); if (color[3] === 255) return color; }
      return [255, 255, 255]; };
  const own = e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  return [...document.querySelectorAll('body *')].filter(e => own(e) && e.getClientRects().length).map(e => {
      const [a, b] = [light(rgba(getComputedStyle(e).color)), light(paper(e))].sort((x, y) => y - x);
      return [(a + .05) / (b + .05), e.textContent.trim().slice(0, 40)]; }).filter(([ratio]) => ratio < 4.5);
}"""
"""What has less contrast than WCAG AA asks of small text."""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a night with a bad load, a hostile one and a clean one, and a night before it."""
    folder = tmp_path_factory.mktemp("night")
    before = Yard(folder, date=NIGHT.replace(day=19), run_id="run-before")
    before.add_load("0001", "L0", [[CABLE]], supplier="Bora & Söhne")
    before.publish()
    yard = Yard(folder)
    yard.add_load("0007", "L1", [[], []], supplier="Alba")
    yard.add_load("0008", "L2", [[CAN, MOTOR, CABLE, MOTOR, CABLE], [CAN, MOTOR], [CAN] * 9], supplier="Bora & Söhne")
    yard.add_load(HOSTILE, "../../x", [[CAN], [CAN]], supplier=HOSTILE)
    yard.add_load("x" * 500, "y" * 500, [[MOTOR], [MOTOR]], supplier="z" * 500)
    yard.add_rejected("quality", "blurred", load=1)
    yard.publish()
    yard.make_pictures()
    write_report(yard.lake, NIGHT, yard.out, storage=STORAGE)
    return Path(yard.out)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])


@pytest.fixture
def index(browser: Browser, out: Path) -> Iterator[Page]:
    with browser.new_context(viewport=SCREEN) as context:
        page = context.new_page()
        page.goto((out / "index.html").as_uri())
        yield page


@pytest.fixture
def worst(index: Page) -> Page:
    """The page of the worst load, one click away from the first."""
    index.get_by_role("region", name="highest severity").get_by_role("link").first.click()
    return index


@pytest.mark.parametrize(("theme", "size"), [("dark", PHONE), ("light", SCREEN)], ids=["dark phone", "light screen"])
def test_every_page_opens_and_asks_nothing_of_the_network(
    theme: str, size: dict[str, int], browser: Browser, out: Path
) -> None:
    complaints: list[str] = []
    with browser.new_context(viewport=size, color_scheme=theme) as context:
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
        page.on(
            "request", lambda asked: complaints.append(asked.url) if not _is_of_the_report(asked.url, out) else None
        )
        pages = sorted(out.rglob("*.html"))
        assert len(pages) == 1 + 4 + 4
        for path in pages:
            page.goto(path.as_uri())
            assert page.title() != "taken"
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path.name
            assert page.evaluate("[...document.images].every(one => one.loading === 'lazy' || one.naturalWidth)")
            assert page.evaluate(FAINT_WORDS) == []
            for landmark in ("banner", "navigation", "main", "contentinfo"):
                assert page.get_by_role(landmark).count() == 1
            assert page.get_by_role("heading", level=1).count() == 1
    assert complaints == []


def _is_of_the_report(url: str, out: Path) -> bool:
    return url.startswith((out.as_uri(), "data:,"))


def test_the_worst_load_is_one_click_away_and_the_next_one_another(worst: Page) -> None:
    assert "Reject Truck 0008, load L2" in worst.get_by_role("heading", level=1).inner_text()
    worst.get_by_role("link", name="Next load").click()
    assert HOSTILE in worst.get_by_role("heading", level=1).inner_text()
    worst.get_by_role("link", name="Night of 20 November 2026").click()
    assert worst.get_by_role("heading", level=1).inner_text() == "Night of 20 November 2026"


def test_outlines_are_switched_off_and_on_by_class(worst: Page) -> None:
    def shown(kind: int) -> int:
        return worst.locator(f"g.o.k{kind}:visible").count()

    motors, cables, cans = (shown(kind) for kind in (1, 2, 3))
    assert min(motors, cables, cans) > 0
    worst.get_by_role("checkbox", name="motor").uncheck()
    assert (shown(1), shown(2), shown(3)) == (0, cables, cans)
    worst.get_by_role("checkbox", name="spray can").focus()
    worst.keyboard.press("Space")
    assert (shown(1), shown(2), shown(3)) == (0, cables, 0)
    worst.get_by_role("checkbox", name="motor").check()
    assert (shown(1), shown(2), shown(3)) == (motors, cables, 0)


def test_numbers_lead_to_their_close_ups_and_can_be_hidden(worst: Page) -> None:
    worst.get_by_role("link", name="Number 1, spray can").first.click()
    assert worst.url.endswith("#d1")
    assert worst.locator("li:target").get_by_role("img", name="Close-up of a spray can, number 1").is_visible()
    worst.get_by_role("checkbox", name="numbers").uncheck()
    assert worst.locator(".tag:visible").count() == 0


def test_the_keyboard_skips_to_the_content_first(index: Page) -> None:
    index.keyboard.press("Tab")
    assert index.evaluate("document.activeElement.textContent") == "Skip to the content"
    index.keyboard.press("Enter")
    assert index.url.endswith("#main")


def test_portrait_frames_are_printed_on_two_sheets_at_most(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nights, "FRAME_HW", (960, 540))
    nights._picture.cache_clear()
    yard = Yard(tmp_path)
    yard.add_load("0007", "L1", [[CAN, MOTOR, CABLE] * 4] * 3, supplier="Alba")
    yard.publish()
    yard.make_pictures()
    nights._picture.cache_clear()
    write_report(yard.lake, NIGHT, yard.out, storage=STORAGE)
    (path,) = Path(yard.out, "loads").iterdir()
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(path.as_uri())
        assert len(re.findall(rb"/Type /Page\b", page.pdf(prefer_css_page_size=True))) in (1, 2)
        page.emulate_media(media="print")
        box = page.locator(".overview .stage").first.bounding_box()
    assert box is not None
    assert box["width"] / box["height"] == pytest.approx(540 / 960, rel=0.01)


def test_a_load_with_many_close_ups_is_printed_on_two_sheets_at_most(worst: Page, tmp_path: Path) -> None:
    assert worst.locator(".close-ups li").count() == 12
    sheets = worst.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type /Page\b", sheets)) in (1, 2)
    worst.emulate_media(media="print")
    assert worst.locator(".close-ups li:visible").count() == 8
    assert worst.get_by_text("On paper: the first 8 of 12 close-ups").is_visible()
