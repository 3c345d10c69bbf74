"""How fast is the page, and how large? `python -m benchmarks.speed.page [--preset smollm2]`

Starts `python app.py` several times and measures from the start of the process to a page that answers (bar 15 s), and in
a real browser from pressing Run to the first word in any column (bar 0.5 s); the slowest is judged. The memory is the largest
the process held at any time (bar 3 GB). Writes benchmarks/results/page.json for pocket, page_smollm2.json for smollm2, whose
weights are converted before the first start.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks.provenance import RESULTS, ROOT, write_results
from patchlab.models import PRESETS
from patchlab.ui import copy

STARTS, RUNS = 3, 15
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
FIRST_WORD = """async () => {
    const before = [...document.querySelectorAll('[id^=lane-] .text')].map((node) => node.innerText).join('|');
    const pressed = performance.now();
    document.querySelector('#run').click();
    while (true) {
        await new Promise((resolve) => requestAnimationFrame(resolve));
        const status = document.querySelector('#status').innerText;
        const now = [...document.querySelectorAll('[id^=lane-] .text')].map((node) => node.innerText).join('|');
        if (now !== before && now.length > 0 && status.includes('Writing')) return (performance.now() - pressed) / 1000;
        if (performance.now() - pressed > 30000) throw new Error('no word in 30 s: ' + status);
    }
}"""


def start(preset: str) -> tuple[subprocess.Popen[bytes], str, float]:
    """The app as a process of its own, its address, and the seconds until it answered."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "app.py", "--port", str(port), "--preset", preset], cwd=ROOT,
                               stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})
    address = f"http://127.0.0.1:{port}"
    while time.perf_counter() - began < 120:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return process, address, time.perf_counter() - began
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    process.kill()
    raise SystemExit("the page did not answer within two minutes")


def peak(process: subprocess.Popen[bytes]) -> float:
    """The largest resident memory of a process so far, in GB; Linux only."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9


def first_words(address: str, preset: str) -> list[float]:
    """Seconds from Run to the first word, for `RUNS` runs with fresh seeds."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not browser:
        raise SystemExit("no Chromium found; install one to time the page")
    taken = []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=FLAGS)
        shown = opened.new_page(viewport={"width": 1280, "height": 900})
        shown.goto(address)
        shown.wait_for_selector("#chart-refusal .main-svg")
        shown.click(f"text={copy.groups(preset)['toxicity'][0].label}")
        for _ in range(RUNS):
            shown.wait_for_timeout(300)
            taken.append(shown.evaluate(FIRST_WORD))
            shown.wait_for_function("document.querySelector('#status').innerText.includes('Done')")
        opened.close()
    return taken


def main() -> int:
    """Measure, print, write; 0 where all bars are met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", default="pocket", choices=("pocket", "smollm2"))
    preset = parser.parse_args().preset
    PRESETS[preset].source("base")
    starts: list[float] = []
    words: list[float] = []
    peaks: list[float] = []
    for k in range(STARTS):
        process, address, seconds = start(preset)
        starts.append(seconds)
        try:
            words = first_words(address, preset) if k == STARTS - 1 else words
            peaks.append(peak(process))
        finally:
            process.terminate()
            process.wait()
    found = {"start_to_answer_s": {"runs": starts, "slowest": max(starts), "bar": 15},
             "run_to_first_word_s": {"runs": words, "first": words[0], "median": statistics.median(words),
                                     "slowest": max(words), "bar": 0.5},
             "memory_gb": {"runs": peaks, "slowest": max(peaks), "bar": 3}}
    name, command = ("page", "speed.page") if preset == "pocket" else (f"page_{preset}", f"speed.page --preset {preset}")
    write_results(RESULTS / f"{name}.json", found, command=command, n=f"{STARTS} starts, {RUNS} runs")
    print(f"start to answer: slowest of {STARTS} {max(starts):.1f} s (bar 15)")
    print(f"Run to first word: median of {RUNS} {statistics.median(words):.2f} s, first {words[0]:.2f} s, "
          f"slowest {max(words):.2f} s (bar 0.5)")
    print(f"memory: at most {max(peaks):.2f} GB (bar 3)")
    return 0 if max(starts) <= 15 and max(words) <= 0.5 and max(peaks) <= 3 else 1


if __name__ == "__main__":
    sys.exit(main())
