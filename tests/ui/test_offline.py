"""The server goes away and comes back: said in the page's own words, at once, and the page comes back by itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from made_visit import Visit
from playwright.sync_api import Browser

from patchlab.ui import copy

pytestmark = pytest.mark.xdist_group("tabs")  # one process, so that what its tests share is made once


def started(port: int) -> subprocess.Popen[bytes]:
    """The page as a process on a port, once it answers."""
    process = subprocess.Popen([sys.executable, "-m", "patchlab.ui", "--preset", "pocket", "--presets", "", "--port", str(port)],
                               env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(6000):  # a busy machine is slow
        try:
            direct.open(f"http://127.0.0.1:{port}/config", timeout=10).close()
            return process
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise AssertionError("the page does not answer")


def test_a_server_that_is_killed_is_told_within_three_seconds_and_found_again(browser: Browser) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = started(port)
    try:
        visit = Visit(browser, f"http://127.0.0.1:{port}/")
        visit.example(copy.EXAMPLES[0].label)
        before = visit.text("patched")
        assert visit.complaints == [] and visit.page.locator("#offline").count() == 0
        process.kill()
        process.wait()
        visit.page.fill("#prompt textarea", "What I was typing")
        visit.page.click("#run")
        visit.page.wait_for_selector("#offline:has-text('not reachable')", timeout=3000)
        assert visit.page.locator(".toast-body:visible").count() == 0 and visit.text("patched") == before
        visit.shot("offline")
        process = started(port)
        visit.page.wait_for_selector("#offline", state="detached")
        visit.page.wait_for_function("(text) => document.querySelector('#lane-patched .text')?.innerText === text", arg=before)
        visit.page.wait_for_function("document.querySelector('#prompt textarea').value === 'What I was typing'")
        visit.run(tokens=8)
        visit.page.close()
    finally:
        process.kill()
        process.wait()
