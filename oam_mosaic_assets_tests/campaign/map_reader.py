"""Two MapLibre maps in a headless Chromium, one at the address of a release, one at the fixed key.

    python -m oam_mosaic_assets_tests.campaign.map_reader '{"page": …, "root": …, "places": [[lon, lat], …]}'

Says when both show something, and, once standard input ends, in JSON what they met.
"""

from __future__ import annotations

import json
import shutil
import sys

from playwright.sync_api import sync_playwright

SOFTWARE_RENDERING = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def main(task: dict[str, object]) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            chromium_sandbox=False,
            args=["--disable-dev-shm-usage", *SOFTWARE_RENDERING],
        )
        page = browser.new_page()
        page.on("pageerror", lambda error: print(error, file=sys.stderr))  # noqa: T201
        page.goto(str(task.pop("page")))
        page.evaluate("task => { window.over = wanderAll(task) }", task)
        page.wait_for_function("met.release?.shown && met.fixed?.shown", timeout=120_000)
        print("at work", flush=True)  # noqa: T201
        sys.stdin.read()
        page.evaluate("isOver = true")
        print(json.dumps(page.evaluate("over")))  # noqa: T201
        browser.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
