"""OpenAerialMap's global mosaic as a Dagster asset graph: a map of its rooms.

    definitions   wires everything below into one `Definitions`; the only place that does
    automation    when it runs, and who is told: jobs, schedules, alerts
    checks        asset checks; each asks `core.audit` and reports its verdict
    assets        one file an asset, named after it: read, call core, write, report
    io_managers   what travels between assets, as objects in the store
    serving       what is public as tiles: Martin, nginx, and what keeps them at work
    resources     gateways as Dagster resources
    gateways      the outside world: catalogue, tippecanoe, object store
    core          what a mosaic is: pure functions and frozen dataclasses
    settings      the environment, read once, every problem named at once
    errors        what can go wrong, and whether a rerun would help
    cli           the command `oam-mosaic`

Imports run from the top of this list to its bottom, never upwards. This file imports nothing.
"""

__version__ = "0.1.0"
