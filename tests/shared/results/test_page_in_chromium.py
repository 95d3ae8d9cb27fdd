"""The page in a real browser: nothing on the console, no request, nothing too wide on a phone, all of it in print."""

from __future__ import annotations

import html
import os
import re
import shutil
import time
import unicodedata

import pytest

from shared.results.__main__ import COMMITTED, find_records, main
from shared.results.record import read_record
from tests.shared.results.test_page import made_up
from tests.shared.results.test_port_section import comparison, port_run
from tests.support.chromium import TIMEOUT, Browser, Visit
from tests.support.pdf_text import texts

pytestmark = [pytest.mark.slow, pytest.mark.once]
PHONE = 390  # pixels, those of the style sheet: what a usual telephone is wide
LONG = 100 * "x"  # a name that has to be broken
WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Skips where there is none; fails there instead where KIT_TEST_BROWSER is 1."""
    paths = list(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))))
    if not paths:
        reason = "NO BROWSER: the results page was not loaded in one (apt-get install chromium)"
        (pytest.fail if os.environ.get("KIT_TEST_BROWSER") == "1" else pytest.skip)(reason)
    with Browser(paths[0], tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page about all committed records, one run of each half that has curves, and two of check-port."""
    folder = tmp_path_factory.mktemp("page")
    halves = [read_record(path)["half"] for path in find_records([])]
    assert len(halves) >= 4
    assert set(halves) == {"tf_seresnet", "torch_imagenet"}
    runs = [made_up(folder, half, half=half, dataset={"name": LONG}) for half in sorted(set(halves))]
    runs += [
        port_run(folder, network=LONG),
        port_run(folder, "fault", {"cpu (Small)": comparison([("forward", "fc", 5.0)])}),
    ]
    file = folder / "page.html"
    assert main([*map(str, [COMMITTED, *runs]), "--format", "html", "--output", str(file)]) == 0
    return file


def test_the_page_asks_nobody(browser, page):
    visit = Visit(browser, page.as_uri())
    assert visit.value("document.querySelectorAll('svg').length") == page.read_text(encoding="utf-8").count("<svg") > 12
    assert visit.value("[...document.images].every(image => image.naturalWidth > 0)")  # each could be decoded
    assert visit.logged() == []
    assert visit.requests() == [page.as_uri()]


ASKING = (
    '{}<title>x</title><link rel="stylesheet" href="near.css"><img src="http://127.0.0.1:9/x.png">'
    '<script>console.error("no"); broken()</script>'
)


def test_a_page_that_asks_is_noticed(browser, tmp_path):
    near, asking = tmp_path / "near.css", tmp_path / "page.html"
    near.write_text("")
    asking.write_text(ASKING.format(""))
    visit = Visit(browser, asking.as_uri())
    assert visit.requests() == [asking.as_uri(), near.as_uri(), "http://127.0.0.1:9/x.png"]
    for word in ("Failed to load resource", "'value': 'no'", "broken is not defined"):
        assert any(word in line for line in visit.logged()), word


def test_what_the_pages_own_rules_forbid_is_noticed_too(browser, page, tmp_path):
    (rules,) = re.findall("<meta http-equiv=[^>]*>", page.read_text(encoding="utf-8"))
    asking = tmp_path / "page.html"
    asking.write_text(ASKING.format(rules))
    for word in ("near.css", "x.png", "script"):
        assert any(word in line for line in Visit(browser, asking.as_uri()).logged()), word


def test_nothing_is_too_wide_on_a_phone(browser, page, tmp_path):
    assert Visit(browser, page.as_uri(), PHONE).value(WIDTH) == PHONE
    wide = tmp_path / "wide.html"
    # Without the mark a telephone lays a page out for a screen, and shows it small.
    for start in ("", '<meta name="viewport" content="width=device-width">'):
        wide.write_text(f'{start}<p style="width: {2 * PHONE}px">wide')
        assert Visit(browser, wide.as_uri(), PHONE).value(WIDTH) > PHONE


TOO_WIDE = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth).length"
OPENED = "document.querySelectorAll('details').forEach(one => one.open = true)"
# Every number of a table is on the screen, behind the name of its column.
SEEN = """[...document.querySelectorAll('.wide')].every(table => {
  const names = [...table.querySelectorAll('th')].map(head => head.textContent);
  return [...table.querySelectorAll('td.number:not(.none)')].every(cell => {
    const box = cell.getBoundingClientRect(), name = getComputedStyle(cell, '::before').content;
    const inside = box.width > 30 && box.left >= 0 && box.right <= document.documentElement.clientWidth;
    return inside && name === JSON.stringify(names[cell.cellIndex]);
  });
})"""


def test_a_phone_shows_every_column(browser, page):
    for width, fits in ((PHONE, True), (641, False), (900, False)):  # above, a table is moved in its own box
        visit = Visit(browser, page.as_uri(), width)
        visit.value(f"{OPENED}; 0")
        assert (visit.value(TOO_WIDE) == 0, visit.value(SEEN)) == (fits, fits), width
        assert visit.value(WIDTH) == width


def test_the_csv_file_is_saved(browser, page, tmp_path, capsys):
    visit = Visit(browser, page.as_uri())
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    visit.value("document.querySelector('a[download]').click(); 0")
    file, end = tmp_path / "results.csv", time.monotonic() + TIMEOUT
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.05)
    runs = [str(page.parent / half) for half in ("tf_seresnet", "torch_imagenet")]
    assert main([str(COMMITTED), *runs, "--format", "csv"]) == 0
    assert file.read_text(encoding="utf-8") == capsys.readouterr().out


def _squeezed(text):
    """Without white space, which depends on where lines end, and without ligatures."""
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", text))


def test_in_print_are_all_pages_and_the_tables(browser, page):
    printed = texts(Visit(browser, page.as_uri()).printed())
    assert len(printed) > len(find_records([]))  # each run begins a page
    cells = re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", page.read_text(encoding="utf-8"), re.DOTALL)
    wanted = {_squeezed(html.unescape(re.sub(r"<[^>]*>", "", cell))) for cell in cells}
    assert len(wanted) > 100
    assert sorted(cell for cell in wanted if cell not in _squeezed("".join(printed))) == []
