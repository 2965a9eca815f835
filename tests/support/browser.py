"""A page in headless Chromium, driven over the DevTools protocol; for tests of the report."""

import asyncio
import os
import shutil
import subprocess
import time
from pathlib import Path

import aiohttp

NAMES = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome", "chrome")


def find_chromium() -> str | None:
    """The program: JEBM_CHROMIUM, or the first on PATH."""
    return os.environ.get("JEBM_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def run_in_page(page: Path, script: str, profile: Path, timeout: float = 120) -> object:
    """Open a file without a network, run an asynchronous function in it, and return what it returns.

    Args:
        script: JavaScript, such as ``async () => 1``; its value must be JSON.
        profile: an empty folder for the browser.
    """
    command = [find_chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    command += ["--proxy-server=127.0.0.1:9", f"--user-data-dir={profile}", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return asyncio.run(asyncio.wait_for(_run(page, script, profile / "DevToolsActivePort"), timeout))
    finally:
        browser.terminate()
        browser.wait(20)


async def _run(page: Path, script: str, port_file: Path) -> object:
    start = time.monotonic()
    while not (port_file.exists() and port_file.read_text().count("\n")):
        if time.monotonic() - start > 60:
            raise TimeoutError("Chromium does not start")
        await asyncio.sleep(0.1)
    port = port_file.read_text().splitlines()[0]
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            address = next(tab for tab in await answer.json() if tab["type"] == "page")["webSocketDebuggerUrl"]
        async with session.ws_connect(address, max_msg_size=0) as socket:
            number = 0

            async def call(method: str, **parameters):
                nonlocal number
                number += 1
                await socket.send_json({"id": number, "method": method, "params": parameters})
                while (message := await socket.receive_json()).get("id") != number:
                    pass
                return message["result"]

            await call("Page.enable")
            await call("Page.navigate", url=page.resolve().as_uri())
            while (await call("Runtime.evaluate", expression="document.readyState"))["result"]["value"] != "complete":
                await asyncio.sleep(0.1)
            options = {"awaitPromise": True, "returnByValue": True}
            done = await call("Runtime.evaluate", expression=f"({script})()", **options)
            if "exceptionDetails" in done:
                raise AssertionError(done["exceptionDetails"]["exception"].get("description", done["exceptionDetails"]))
            return done["result"].get("value")
