"""Drives third-party viewers in tests: npm packages in a temporary folder, a local web server, and Chromium."""

from __future__ import annotations

import atexit
import contextlib
import functools
import http.server
import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
_BROWSE = """
const {chromium} = require("playwright-core");
(async () => {
  const given = JSON.parse(process.argv[2]);
  const browser = await chromium.launch({executablePath: given.chromium, args: given.flags});
  const page = await browser.newPage({viewport: {width: given.size, height: given.size}});
  page.on("pageerror", error => console.error(String(error)));
  await page.goto(given.url);
  await page.waitForFunction(given.ready, null, {timeout: 60000});
  await page.screenshot({path: given.picture});
  console.log(await page.content());
  await browser.close();
})().catch(error => { console.error(error); process.exit(1); });
"""


_DRIVE = """
const {chromium} = require("playwright-core");
(async () => {
  const given = JSON.parse(process.argv[2]);
  const browser = await chromium.launch({executablePath: given.chromium, args: given.flags});
  const viewport = {width: given.width, height: given.height};
  const context = await browser.newContext({viewport, hasTouch: given.touch});
  const page = await context.newPage();
  const errors = [], requests = [];
  page.on("pageerror", error => errors.push(String(error)));
  page.on("console", message => { if (["error", "warning"].includes(message.type())) errors.push(message.text()); });
  page.on("requestfailed", request => errors.push(`${request.url()}: ${request.failure().errorText}`));
  page.on("request", request => requests.push(request.url()));
  page.on("dialog", dialog => { errors.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  await page.goto(given.url);
  const steps = Object.getPrototypeOf(async () => {}).constructor("page", "folder", given.steps);
  const result = await steps(page, given.folder);
  console.log(JSON.stringify({result, errors, requests}));
  await browser.close();
})().catch(error => { console.error(error); process.exit(1); });
"""


@dataclass(frozen=True)
class Visit:
    """Outcome of driving a page.

    Attributes:
        result: return value of the steps.
        errors: errors and warnings of the page.
        requests: URLs that the page requested.
    """

    result: Any
    errors: list[str]
    requests: list[str]


def drive(url: str, steps: str, folder: Path, size: tuple[int, int] = (1200, 900), touch: bool = False) -> Visit:
    """Open a page and run JavaScript with Playwright's `page`, and with `folder` as the folder for screenshots.

    Skips the test if Chromium is missing or npm cannot install Playwright.
    """
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    script = _driver() / "drive.js"
    given = {"chromium": CHROMIUM, "flags": _FLAGS, "url": url, "steps": steps, "folder": str(folder), "touch": touch}
    given.update(width=size[0], height=size[1])
    command = ["node", str(script), json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return Visit(**json.loads(done.stdout))


def npm_install(folder: Path, *packages: str) -> Path:
    """Install npm packages and return their `node_modules`; skips the test if npm cannot install them."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    command = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), *packages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install {', '.join(packages)}: {done.stderr.strip()[-200:]}")
    return folder / "node_modules"


def browse(url: str, ready: str, folder: Path, size: int = 256) -> tuple[str, Path]:
    """Open a page, wait until a JavaScript expression is true, and return its HTML and a screenshot.

    Skips the test if Chromium is missing or npm cannot install Playwright.
    """
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    picture = folder / "screenshot.png"
    script = _driver() / "browse.js"
    given = json.dumps(
        {"chromium": CHROMIUM, "flags": _FLAGS, "url": url, "ready": ready, "size": size, "picture": str(picture)}
    )
    done = subprocess.run(["node", str(script), given], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, picture


@functools.cache
def _driver() -> Path:
    """Install playwright-core in a temporary folder, once per process."""
    folder = Path(tempfile.mkdtemp(prefix="browser-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    npm_install(folder, "playwright-core")
    (folder / "browse.js").write_text(_BROWSE)
    (folder / "drive.js").write_text(_DRIVE)
    return folder


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder at a local address while the block runs; yields the address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
