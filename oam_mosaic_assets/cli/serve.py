"""`oam-mosaic serve`: serves the public mosaic as tiles until it is stopped."""

from __future__ import annotations

import logging
import sys
import time

from oam_mosaic_assets.gateways.from_settings import store_of
from oam_mosaic_assets.serving.supervisor import Supervisor
from oam_mosaic_assets.settings import Settings


def serve() -> int:
    """Serve until SIGINT or SIGTERM, which arrive as `KeyboardInterrupt`."""
    settings = Settings.read()
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stderr,
        level=settings.log_level,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%Y-%m-%d %H:%M:%SZ",  # as in a build's log, with the date
    )
    for noisy in ("urllib3", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    log = logging.getLogger("serve")
    for remark in settings.remarks():
        log.warning(remark)
    if settings.sample_goes_to_s3:
        log.warning(
            "So the sample is served, once it is published. To serve the public mosaic, set the source that "
            "the builds read; it is not contacted."
        )
    with Supervisor(settings, store_of(settings, patient=False), log) as supervisor:
        supervisor.run()
    return 0
