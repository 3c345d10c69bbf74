"""Take docs/screenshot.png: the page after one example, in a real browser. Run it after a change of the page."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from patchlab.engine import load
from patchlab.ui import copy, page

TARGET = Path(__file__).resolve().parents[1] / "docs" / "screenshot.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def take(address: str, browser: str) -> None:
    """Run the first example on the page at `address` and keep a picture of all of it."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=FLAGS)
        shown = opened.new_page(viewport={"width": 1280, "height": 900}, device_scale_factor=1.5)
        shown.goto(address)
        shown.wait_for_selector("#chart-refusal .main-svg")
        shown.click(f"text={copy.EXAMPLES[0].label}")
        shown.click("#run")
        shown.wait_for_function(f"document.querySelector('#status').innerText.includes({copy.DONE!r})")
        shown.wait_for_timeout(500)  # the last redraw
        TARGET.parent.mkdir(exist_ok=True)
        shown.screenshot(path=TARGET, full_page=True)
        opened.close()


def main() -> None:
    """Serve the page, take the picture, stop."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        sys.exit("no Chromium found; install one to take the screenshot")
    lab = load("pocket")
    blocks = page.build(lab)
    page.warm_up(lab)
    take(page.launch(blocks, port=None, block=False), browser)
    blocks.close(verbose=False)
    print(TARGET)


if __name__ == "__main__":
    main()
