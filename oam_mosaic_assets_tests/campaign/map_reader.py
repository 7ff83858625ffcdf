"""Two MapLibre maps in headless Chromium, one reading the address of a release, one the fixed key.

    python -m oam_mosaic_assets_tests.campaign.map_reader '{"page": …, "root": …, "places": [[lon, lat], …]}'

Prints `at work` once both show something and, when standard input ends, what they met, as JSON.
"""

from __future__ import annotations

import json
import sys

from oam_mosaic_assets_tests.servers.chromium import SOFTWARE_RENDERING, running_chromium


def main(task: dict[str, object]) -> None:
    with running_chromium(*SOFTWARE_RENDERING) as browser:
        page = browser.new_page()
        page.on("pageerror", lambda error: print(error, file=sys.stderr))  # noqa: T201
        page.goto(str(task.pop("page")))
        page.evaluate("task => { window.over = wanderAll(task) }", task)
        page.wait_for_function("met.release?.shown && met.fixed?.shown", timeout=120_000)
        print("at work", flush=True)  # noqa: T201
        sys.stdin.read()
        page.evaluate("isOver = true")
        print(json.dumps(page.evaluate("over")))  # noqa: T201


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
