"""OpenAerialMap's global mosaic as a Dagster asset graph: a map of its packages.

    cli           the command `oam-mosaic`
    definitions   wires everything below into one `Definitions`; the only place that does
    automation    when it runs, and who is alerted: jobs, schedules, sensors
    checks        asset checks; each asks `core.audit` and reports its verdict
    assets        one file per asset, named after it: read, call core, write, report
    io_managers   what travels between assets, as objects in the store
    serving       the public mosaic as tiles: Martin, nginx, and what keeps them running
    resources     gateways as Dagster resources
    gateways      the outside world: catalogue, tippecanoe, object store
    settings      the environment, read once; all its problems reported together
    core          what a mosaic is: pure functions and frozen dataclasses
    errors        what can go wrong, and whether a rerun would help

Imports only ever point down this list. This file imports nothing.
"""

__version__ = "0.1.0"
