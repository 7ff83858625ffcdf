"""The command `oam-mosaic`. Each subcommand imports what it needs when run; light ones import no Dagster."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from oam_mosaic_assets import __version__
from oam_mosaic_assets.cli.signals import stoppable
from oam_mosaic_assets.core.release import is_build_name
from oam_mosaic_assets.errors import MosaicError, SettingsError

DESCRIPTION = """\
OpenAerialMap's global mosaic: where in the world is there openly licensed imagery?

Reads the catalogue, tiles the footprints of all its images into one PMTiles
archive, audits it, and publishes it. Everything is configured by environment
variables (or a .env file in the current folder); with none set, it builds a
sample catalogue into ./data/store.
"""

EPILOG = """\
exit codes:
  0  published, or all is well
  1  failed; a rerun may help
  2  wrong usage or settings; a person must change something first
  3  refused by the audit or a guard; a person must decide
  129, 130, 143  stopped by SIGHUP, SIGINT, SIGTERM

examples:
  oam-mosaic build                          the sample, into ./data/store
  STAC_ITEMS=items.ndjson oam-mosaic build  a file of STAC items
  oam-mosaic doctor                         is everything in place for a build?
  oam-mosaic status                         what is public, how old is it, is it intact?
  oam-mosaic validate global-mosaic.pmtiles
  oam-mosaic rollback --reason "islands are missing"
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    stated = _parser().parse_args(arguments)
    with stoppable() as stopped_by:
        return _run(stated, stopped_by)


def _run(stated: argparse.Namespace, stopped_by: Callable[[], signal.Signals | None]) -> int:
    command: Callable[[argparse.Namespace], int] = stated.command
    try:
        return command(stated)
    except MosaicError as error:
        return explain(error)
    except KeyboardInterrupt as stopped:
        return _stopped(stopped_by() or signal.SIGINT, f" in {stopped}" if str(stopped) else "")
    except Exception:
        if sign := stopped_by():  # interrupted imports of compiled modules raise other errors
            return _stopped(sign, "")
        raise


def _stopped(by: signal.Signals, where: str) -> int:
    try:
        print(f"oam-mosaic: stopped{where}; whatever is public stays public and intact.", file=sys.stderr)  # noqa: T201
    except OSError:  # the terminal is gone; keep Python from flushing to it again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    return 128 + by


def explain(error: MosaicError) -> int:
    """Print what happened, what to do about it and the kind of error; returns the exit code."""
    print(f"oam-mosaic: {error.message}", file=sys.stderr)  # noqa: T201
    if error.hint:
        print(f"\nWhat to do: {error.hint}", file=sys.stderr)  # noqa: T201
    print(f"\n{kind_of(type(error).__name__)}", file=sys.stderr)  # noqa: T201
    return error.exit_code


def kind_of(name: str) -> str:
    """Point to where the documentation describes this kind of error."""
    return f"Kind: {name} (see docs/operation.md)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="oam-mosaic",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"oam-mosaic {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    build = commands.add_parser(
        "build",
        help="build the mosaic from the catalogue and publish it",
        description="Runs the Dagster job `global_mosaic` in this process. Afterwards the run, its events "
        "and its lineage are in the UI (scripts/ui).",
    )
    build.add_argument(
        "--confirm",
        metavar="REASON",
        type=_stated,
        help="let this build pass the guards; the reason is recorded in the public manifest",
    )
    build.add_argument(
        "--anew", action="store_true", help="build every tile, even if nothing changed since the public build"
    )
    build.set_defaults(command=_build)

    publish = commands.add_parser(
        "publish",
        help="publish a build that a guard held back",
        description="A build that cannot draw too many of its images, or has lost too many since the last "
        "build, is staged and audited, but waits for a person. Look at its checks in the UI first.",
    )
    publish.add_argument(
        "build", metavar="BUILD", type=_named, help="the build's name, such as 20260115T030000Z-3f9c2a7d41be"
    )
    publish.add_argument(
        "--confirm",
        metavar="REASON",
        required=True,
        type=_stated,
        help="why it may pass; recorded in the public manifest",
    )
    publish.set_defaults(command=_publish)

    doctor = commands.add_parser(
        "doctor",
        help="before the first run: check that everything a build needs is in place",
        description="Queries the source, tests each permission and each guarantee of the store on objects of "
        "its own, which it then deletes, and examines this machine. Publishes nothing. Exits with 2 if a "
        "person must change something before a build can succeed, with 1 if something cannot be reached "
        "right now.",
    )
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(command=_doctor)

    releases = commands.add_parser(
        "releases",
        help="list the published builds, and which of them is public",
        description="Newest first, with each build's publication, images and bytes, and its state: it is "
        "public, was so before that one, earlier, or until a rollback; or its publication is unfinished.",
    )
    releases.add_argument("--json", action="store_true", help="print JSON")
    releases.set_defaults(command=_releases)

    rollback = commands.add_parser(
        "rollback",
        help="make an earlier build public again, and hold publication",
        description="Runs the Dagster job `rollback` in this process. No later build becomes public until "
        "`oam-mosaic resume`.",
    )
    rollback.add_argument(
        "build", metavar="BUILD", type=_named, nargs="?", help="the build's name; by default, the one before"
    )
    rollback.add_argument(
        "--reason", metavar="REASON", required=True, type=_stated, help="recorded with the rollback"
    )
    rollback.set_defaults(command=_rollback)

    hold = commands.add_parser(
        "hold",
        help="keep builds from becoming public until `oam-mosaic resume`",
        description="Every build, however it is started, is refused with this reason, and nothing of it is "
        "kept. What is public stays public.",
    )
    hold.add_argument(
        "--reason", metavar="REASON", required=True, type=_stated, help="shown to anyone who builds"
    )
    hold.set_defaults(command=_hold)

    resume = commands.add_parser(
        "resume",
        help="end a hold",
        description="The next build will be published again; this command does not start one. "
        "Builds that the hold stopped were not kept.",
    )
    resume.set_defaults(command=_resume)

    takedown = commands.add_parser(
        "takedown",
        usage="%(prog)s [-h] (ID --reason REASON [--confirm REASON] | --list [--json] | --undo ID)",
        help="remove an image from everything that is public or kept, and from every later build",
        description="Puts the image on a private list, publishes a mosaic without it, even while publication "
        "is held, deletes every build that contains it, and reads everything that is left to check that "
        "nothing names it. An id that begins with a dash must come last, after `--`.",
    )
    takedown.add_argument("id", metavar="ID", nargs="?", help="the STAC item's id")
    takedown.add_argument("--reason", metavar="REASON", type=_stated, help="kept on the private list")
    takedown.add_argument(
        "--confirm",
        metavar="REASON",
        type=_stated,
        help="let the new build pass the guards; recorded in the public manifest",
    )
    takedown.add_argument("--list", action="store_true", help="list what was taken down")
    takedown.add_argument("--undo", metavar="ID", help="take an image off the list")
    takedown.add_argument("--json", action="store_true", help="with --list: print JSON")
    takedown.set_defaults(command=_takedown)

    status = commands.add_parser(
        "status",
        help="show what is public, how old it is, and whether it is still what was published",
        description="Queries the store, and with --catalogue also the catalogue. Exits with 1 if the mosaic "
        "is late, stale, missing or not what was published, or if a takedown is not finished, or may not be.",
    )
    status.add_argument(
        "--catalogue", action="store_true", help="also say how it differs from the catalogue as it is now"
    )
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(command=_status)

    _add_sample(commands)

    validate = commands.add_parser(
        "validate",
        help="read an entire mosaic archive and say what it contains",
        description="Opens a PMTiles archive, reads every directory and every tile, and lists tiles and "
        "images by zoom. Exits with 3 if tiles are broken or missing or the file is cut short, with 2 if it "
        "is no PMTiles archive.",
    )
    validate.add_argument("file", type=_local, metavar="FILE", help="a PMTiles archive of this project")
    validate.add_argument("--json", action="store_true", help="print JSON")
    validate.set_defaults(command=_validate)

    serve = commands.add_parser(
        "serve",
        help="serve the public mosaic as tiles, for maps that cannot read PMTiles, until stopped",
        description="Runs Martin and nginx: vector tiles on port 3004, the raster address on 8084, the "
        "viewer on 8085, on the loopback interface unless SERVE_ADDRESS says otherwise. Switches to each "
        "new release by itself. Needs no keys, as it reads only what is public. See docs/serving.md.",
    )
    serve.set_defaults(command=_serve)

    _add_imagery(commands)
    _add_alerts(commands)
    return parser


def _add_sample(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sample = commands.add_parser(
        "sample",
        help="write the sample catalogue as newline-delimited STAC items",
        description="It is made up, always the same, and shaped like OpenAerialMap's: clusters of drone "
        "flights under large satellite scenes, islands on the antimeridian, and a few of each kind of "
        "bad item.",
    )
    sample.add_argument(
        "--images",
        type=int,
        default=2000,
        metavar="N",
        help="how many (default 2000, at least 172); 21 of them are bad, so a guard holds back samples of "
        "fewer than 1050",
    )
    sample.add_argument(
        "--output", type=Path, metavar="FILE", help="write to this new file, not to standard output"
    )
    sample.add_argument("--force", action="store_true", help="with --output: overwrite a file that is there")
    sample.set_defaults(command=_sample)


def _add_alerts(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    alerts = commands.add_parser(
        "test-alerts",
        help="send a test message through each alert channel",
        description="Says for each channel whether it accepted the message. Exits with 1 if one did not, "
        "with 2 if none is configured.",
    )
    alerts.set_defaults(command=_test_alerts)


def _add_imagery(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    imagery = commands.add_parser(
        "imagery",
        help="read the images of the public build on this machine, for the next build to assemble",
        description="Runs the Dagster job `imagery_partitions` in this process, once for each partition (a "
        "zoom 6 tile with images). It works from the store alone, so several machines can do a share each at "
        "the same time; what was read before costs no requests. The product `imagery` is off by default: "
        "MOSAIC_PRODUCTS must name it, for the builds as well. See docs/imagery.md.",
    )
    imagery.add_argument(
        "partitions",
        metavar="PARTITION",
        nargs="*",
        type=_partition,
        help="such as 6-34-23; by default, all of them",
    )
    imagery.add_argument(
        "--share", metavar="N/M", type=_share, default=(1, 1), help="do share N of M, one for each machine"
    )
    imagery.add_argument("--list", action="store_true", help="only list these partitions")
    imagery.set_defaults(command=_imagery)


def _local(path: str) -> Path:
    if "://" in path:  # a `Path` would turn two slashes into one
        raise argparse.ArgumentTypeError(f"{path!r} is an address; only local files are read: download it")
    return Path(path)


def _named(build: str) -> str:
    if not is_build_name(build):
        raise argparse.ArgumentTypeError(
            f"{build!r} is not a build name such as 20260115T030000Z-3f9c2a7d41be"
        )
    return build


def _stated(reason: str) -> str:
    if not reason.strip():
        raise argparse.ArgumentTypeError("a reason cannot be empty")
    return reason.strip()


def _partition(name: str) -> str:
    from oam_mosaic_assets.core.imagery.blocks import Tile  # noqa: PLC0415  # slow to import

    try:
        return Tile.named(name).partition
    except ValueError:
        raise argparse.ArgumentTypeError(f"{name!r} is not a partition such as 6-34-23") from None


def _share(text: str) -> tuple[int, int]:
    which, _, of = text.partition("/")
    if not (which.isdigit() and of.isdigit() and 1 <= int(which) <= int(of)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a share such as 2/8")
    return int(which), int(of)


def _build(stated: argparse.Namespace) -> int:
    from oam_mosaic_assets.cli.build import run_job  # noqa: PLC0415

    return run_job("global_mosaic", confirm=stated.confirm, anew=stated.anew)


def _publish(stated: argparse.Namespace) -> int:
    from oam_mosaic_assets.cli.build import run_job  # noqa: PLC0415

    return run_job("publish_held_build", confirm=stated.confirm, build=stated.build)


def _doctor(stated: argparse.Namespace) -> int:
    from oam_mosaic_assets.cli.doctor import show_findings  # noqa: PLC0415

    return show_findings(as_json=stated.json)


def _releases(stated: argparse.Namespace) -> int:
    from oam_mosaic_assets.cli.releases import show_releases  # noqa: PLC0415

    return show_releases(as_json=stated.json)


def _rollback(stated: argparse.Namespace) -> int:
    from oam_mosaic_assets.cli.build import run_job  # noqa: PLC0415

    return run_job("rollback", build=stated.build, reason=stated.reason)


def _hold(stated: argparse.Namespace) -> int:
    from oam_mosaic_assets.cli.releases import hold  # noqa: PLC0415

    return hold(stated.reason)


def _resume(_: argparse.Namespace) -> int:
    from oam_mosaic_assets.cli.releases import resume  # noqa: PLC0415

    return resume()


def _takedown(stated: argparse.Namespace) -> int:
    from oam_mosaic_assets.cli import takedown  # noqa: PLC0415

    if [stated.id is not None, stated.undo is not None, stated.list].count(True) != 1:
        raise SettingsError(
            "Give exactly one of ID, --undo ID and --list.", hint="See oam-mosaic takedown --help."
        )
    if stated.list:
        return takedown.list_takedowns(as_json=stated.json)
    if stated.undo is not None:
        return takedown.undo(stated.undo)
    if stated.reason is None:
        raise SettingsError("A takedown needs a reason.", hint="Give --reason REASON; it is kept private.")
    return takedown.take_down(stated.id, reason=stated.reason, confirm=stated.confirm)


def _imagery(stated: argparse.Namespace) -> int:
    from oam_mosaic_assets.cli.imagery import list_partitions, read_partitions  # noqa: PLC0415

    act = list_partitions if stated.list else read_partitions
    return act(stated.partitions, stated.share)


def _status(stated: argparse.Namespace) -> int:
    from oam_mosaic_assets.cli.light import show_status  # noqa: PLC0415

    return show_status(as_json=stated.json, ask_catalogue=stated.catalogue)


def _sample(stated: argparse.Namespace) -> int:
    from oam_mosaic_assets.cli.light import write_sample  # noqa: PLC0415

    return write_sample(stated.images, stated.output, may_overwrite=stated.force)


def _validate(stated: argparse.Namespace) -> int:
    from oam_mosaic_assets.cli.light import show_archive  # noqa: PLC0415

    return show_archive(stated.file, as_json=stated.json)


def _serve(_: argparse.Namespace) -> int:
    from oam_mosaic_assets.cli.serve import serve  # noqa: PLC0415

    return serve()


def _test_alerts(_: argparse.Namespace) -> int:
    from oam_mosaic_assets.cli.alerts import send_test  # noqa: PLC0415

    return send_test()
