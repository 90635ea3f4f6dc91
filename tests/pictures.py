"""Makes the pictures of docs/report.md from a store with thumbnails: `python -m tests.pictures STORE`."""

import io
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from nmcl.flows.report.gallery_page import write_gallery
from nmcl.flows.report.run_page import render_run
from nmcl.flows.run.gallery import gallery_of
from nmcl.flows.run.run_page import page_of
from nmcl.pipeline.storage.runs import champion
from nmcl.pipeline.storage.store import Store
from tests.browser import Browser, chromium

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"


def main(store: str) -> None:
    """Write all pictures of the store's champion."""
    run = champion(Store.open(store))
    assert run is not None
    FOLDER.mkdir(exist_ok=True)
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "run.html"
        page.write_text(render_run(page_of(run)), encoding="utf-8")
        browser.open(page)
        _save(browser, "report-confusion", "#confusion")
        browser.run("document.querySelector('.matrix td:not(.hit) button').click()")
        _save(browser, "report-cell")
        browser.open(page, dark=True)
        _save(browser, "report-videos", "#videos")
        browser.open(page, width=390, height=844)
        _save(browser, "report-phone", "#fusing")
        browser.open(write_gallery(gallery_of(run), Path(folder) / "gallery"), charts=False)
        browser.run("document.querySelector('#map summary').click()")
        browser.wait("return document.querySelector('#chart-map').dataset.ready")
        _save(browser, "gallery")
        browser.run("document.querySelector('#grid button').click()")
        browser.wait("const v = document.querySelector('#player video'); return v && v.readyState > 1")
        _save(browser, "gallery-video")


def _save(browser: Browser, name: str, place: str = "body") -> None:
    browser.run("document.querySelector(arguments[0]).scrollIntoView({behavior: 'instant'})", place)
    time.sleep(1)  # pictures are decoded when they are seen
    picture = Image.open(io.BytesIO(browser.driver.get_screenshot_as_png()))
    picture.save(FOLDER / f"{name}.webp", quality=80, method=6)


if __name__ == "__main__":
    main(sys.argv[1])
