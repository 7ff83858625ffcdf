"""The scripts: what they say when they cannot continue, and what they leave running."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import pytest

from oam_mosaic_assets_tests.automation.forked import run_forked
from oam_mosaic_assets_tests.automation.live_dagster import environment_of
from oam_mosaic_assets_tests.chain import REPOSITORY, some_items, write_items
from oam_mosaic_assets_tests.servers.ports import free_port

AT_WORK = "exec sleep 600"
PATIENCE_SECONDS = 120


def test_whoever_may_not_install_is_told_of_all_that_is_missing_at_once(tmp_path: Path) -> None:
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []
    told = subprocess.run(
        [*nobody, "bash", "-s"],
        input=(REPOSITORY / "scripts" / "install-test-servers").read_text(),
        env={"PATH": "/usr/bin:/bin", "OAM_MOSAIC_CACHE": str(tmp_path / "cache")},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 2
    assert f"Ceph's S3 gateway, unpacked into {tmp_path / 'cache'}" in told.stderr
    assert f"Run once as root: OAM_MOSAIC_CACHE={tmp_path / 'cache'}" in told.stderr


@pytest.mark.parametrize(
    ("script", "suite"), [("install-martin", "forky"), ("install-test-servers", "trixie")]
)
def test_why_a_suite_of_debian_cannot_be_read_is_said(tmp_path: Path, script: str, suite: str) -> None:
    says = 'for line in $(seq 30); do echo "line $line."; done; echo "E: not valid yet" >&2; exit 25'
    programs = {"mmdebstrap": says, "cargo": "exit 1", "apt-get": "exit 0", "id": "echo 0"}
    environment = prepared(tmp_path, programs) | {"OAM_MOSAIC_CACHE": str(tmp_path / "cache")}
    path = f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}"
    told = run(script, cwd=tmp_path, PATH=path, **environment)
    assert told.returncode == 2
    *_, first, last = told.stderr.splitlines()
    assert first == "E: not valid yet"
    assert last.startswith(f"Debian's suite {suite} could not be read")
    assert ("line 11." in told.stderr, "line 12." in told.stderr) == (False, True)
    assert list((tmp_path / "cache").iterdir()) == []


def having_tested(folder: Path, *, alone: int = 0, beside: int = 0, again: int = 0) -> tuple[int, list[str]]:
    """Run `scripts/test` with a pytest that ends with these codes; returns its own code, and what was run."""
    project = a_project(folder)
    (project / "scripts" / "install-test-servers").write_text("#!/bin/sh\n")
    shutil.copyfile(REPOSITORY / "requirements-dev.lock", project / "requirements-dev.lock")
    pytest_ = f"""case "$*" in
    "-m alone") echo alone; exit {alone} ;;
    *numprocesses*"not alone"*) echo beside; exit {beside} ;;
    *last-failed*) echo again; exit {again} ;;
    esac"""
    environment = prepared(folder, {"pytest": pytest_}, lock="requirements-dev.lock")
    told = run(project / "scripts" / "test", cwd=folder, **environment)
    return told.returncode, told.stdout.split()


@pytest.mark.parametrize("code", [2, 3, 4, 137])
def test_tests_that_were_not_all_run_are_no_success(tmp_path: Path, code: int) -> None:
    assert having_tested(tmp_path / "both", beside=code) == (code, ["alone", "beside"])
    assert having_tested(tmp_path / "alone", alone=code) == (code, ["alone"])


@pytest.mark.parametrize("again", [0, 1])
@pytest.mark.parametrize(("alone", "beside"), [(1, 0), (0, 1), (1, 1)])
def test_a_test_that_failed_has_to_pass_when_it_is_run_again(
    tmp_path: Path, alone: int, beside: int, again: int
) -> None:
    assert having_tested(tmp_path, alone=alone, beside=beside, again=again) == (
        again,
        ["alone", "beside", "again"],
    )


def test_tests_that_passed_are_not_run_again(tmp_path: Path) -> None:
    assert having_tested(tmp_path) == (0, ["alone", "beside"])


@contextmanager
def a_ui(folder: Path, *, daemon: str, webserver: str) -> Iterator[subprocess.Popen[str]]:
    """Run `scripts/ui` with other programs in place of Dagster's; each writes down its process id."""
    programs = {
        "dagster-daemon": f"echo $$ >'{folder}/daemon'; {daemon}",
        "dagster-webserver": f"echo $$ >'{folder}/webserver'; {webserver}",
    }
    environment = {**environment_of(folder), **prepared(folder, programs)}
    script = REPOSITORY / "scripts" / "ui"
    with subprocess.Popen([script], env=environment, text=True, start_new_session=True) as ui:
        try:
            yield ui
        finally:
            with suppress(ProcessLookupError):
                os.killpg(ui.pid, signal.SIGKILL)


def prepared(folder: Path, commands: dict[str, str], lock: str = "requirements.lock") -> dict[str, str]:
    """Make what the scripts take for a finished environment, with these programs; gives its variable."""
    programs = folder / "venv" / "bin"
    programs.mkdir(parents=True)
    for name, command in {**commands, "python": f"exec '{sys.executable}' \"$@\""}.items():
        (programs / name).write_text(f"#!/bin/sh\n{command}\n")
        (programs / name).chmod(0o755)
    locked = (REPOSITORY / name for name in (lock, "pyproject.toml"))
    stamp = hashlib.sha256(b"".join(path.read_bytes() for path in locked)).hexdigest()
    (folder / "venv" / ".prepared").write_text(stamp)
    return {"OAM_MOSAIC_VENV": str(folder / "venv")}


def is_at_work(note: Path) -> bool:
    """Whether the process that wrote the note is running."""
    try:
        return Path(f"/proc/{int(note.read_text())}/cmdline").read_bytes().startswith(b"sleep")
    except (OSError, ValueError):
        return False


def until(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def a_project(folder: Path) -> Path:
    """A copy of the project, as far as the scripts look at it."""
    project = folder / "project"
    shutil.copytree(REPOSITORY / "scripts", project / "scripts")
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copyfile(REPOSITORY / name, project / name)
    return project


def run(
    script: str | Path, *arguments: str, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [REPOSITORY / "scripts" / script, *arguments],
        env={**environment_of(cwd), **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    "script",
    [
        "run",
        "ui",
        "test",
        "faults",
        "swaps",
        "build-viewer",
        "lock",
        "check-image",
        "install-martin",
        "install-test-servers",
    ],
)
@pytest.mark.parametrize("asked", ["-h", "--help"])
def test_help_is_given_without_setting_anything_up(tmp_path: Path, script: str, asked: str) -> None:
    told = run(script, asked, cwd=tmp_path, OAM_MOSAIC_VENV=str(tmp_path / "venv"))
    assert told.returncode == 0
    assert told.stdout.startswith(f"usage: scripts/{script}")
    assert told.stderr == ""
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    ("programs", "more", "why"),
    [
        ({}, {}, "no engine of docker or podman answers, and there is no buildah"),
        ({"buildah": "exit 1", "id": "echo 0"}, {}, "and buildah's store lacks docker.io/library/python:"),
        ({"buildah": "exit 1", "id": "echo 1"}, {}, "and buildah needs root"),
        ({"buildah": "exit 1", "id": "echo 1"}, {"IMAGE_BUILDER": "true"}, "checked: buildah needs root"),
    ],
)
def test_why_an_image_was_not_built_is_said_in_a_line(
    tmp_path: Path, programs: dict[str, str], more: dict[str, str], why: str
) -> None:
    for name, does in ({"docker": "exit 1", "podman": "exit 1"} | programs).items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("bash", "sh", "dirname", "awk", "sort", "cat", "id"):
        if name not in programs:
            (tmp_path / name).symlink_to(shutil.which(name) or "")
    told = run("check-image", cwd=tmp_path, PATH=str(tmp_path), CI="true", **more)
    assert (told.returncode, told.stdout) == (0, "")
    (line,) = told.stderr.splitlines()
    assert line.startswith("The image was neither built nor checked: ")
    assert why in line


def test_what_the_ui_does_not_know_is_wrong_usage(tmp_path: Path) -> None:
    told = run("ui", "--port=1", cwd=tmp_path, OAM_MOSAIC_VENV=str(tmp_path / "venv"))
    assert told.returncode == 2
    assert told.stderr.startswith("usage: scripts/ui")
    assert not (tmp_path / "venv").exists()


def test_the_ui_says_of_wrong_settings_what_the_command_says(tmp_path: Path) -> None:
    told = run("ui", cwd=tmp_path, ZOOM_MAX="3", **prepared(tmp_path, {}))
    assert told.returncode == 2
    assert told.stderr.startswith("oam-mosaic: The settings are wrong:\n  - ZOOM_MAX: ")
    assert "\nWhat to do: " in told.stderr


def test_a_build_elsewhere_leaves_the_ui_a_home_in_which_runs_are_watched_and_retried(tmp_path: Path) -> None:
    """Such as cron's, which starts it in a folder that is none of the project's."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_items(items := tmp_path / "items.ndjson", some_items(3))
    environment = environment_of(tmp_path, DAGSTER_HOME=str(home), STAC_ITEMS=str(items))
    build = run_forked(["build"], environment=environment, folder=elsewhere)
    assert build.returncode == 0, build.stderr
    programs = prepared(tmp_path, {"dagster-daemon": "exit 3", "dagster-webserver": AT_WORK})
    ui = run("ui", cwd=tmp_path, DAGSTER_HOME=str(home), PORT=str(free_port()), **programs)
    assert ui.returncode == 3, ui.stderr
    with dg.DagsterInstance.from_config(str(home)) as opened:
        assert opened.run_monitoring_enabled
        assert opened.run_retries_enabled
        assert not opened.telemetry_enabled


def test_the_ui_says_that_its_home_has_other_settings_than_the_project_and_leaves_them(
    tmp_path: Path,
) -> None:
    ends = prepared(tmp_path, {"dagster-daemon": "exit 3", "dagster-webserver": AT_WORK})
    kept = tmp_path / "home" / "dagster.yaml"
    for older in (None, "telemetry: {enabled: false}\n"):
        if older:
            kept.write_text(older)
        told = run("ui", cwd=tmp_path, DAGSTER_HOME=str(kept.parent), PORT=str(free_port()), **ends)
        assert told.returncode == 3, told.stderr
        assert (f"{kept}, by which Dagster works, is not" in told.stderr) == bool(older)
    assert f"cp '{REPOSITORY}/dagster.yaml' '{kept.parent}/'" in told.stderr
    assert kept.read_text() == older


def test_the_ui_does_not_come_up_without_the_executor_that_is_asked_for(tmp_path: Path) -> None:
    executor = {"BUILD_EXECUTOR": "dagster_k8s:k8s_job_executor"}
    told = run("ui", cwd=tmp_path, PORT="0", **executor, **prepared(tmp_path, {}))
    assert told.returncode == 2
    assert "BUILD_EXECUTOR, dagster_k8s:k8s_job_executor, cannot be imported" in told.stderr


@pytest.mark.parametrize("port", ["taken", "none", "70000"])
def test_the_ui_says_of_a_port_that_it_cannot_have_which_and_why(tmp_path: Path, port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = str(taken.getsockname()[1]) if port == "taken" else port
        told = run("ui", cwd=tmp_path, PORT=wanted, **prepared(tmp_path, {}))
    assert told.returncode == 2
    why = "Address already in use" if port == "taken" else "it is not a port number (1 to 65535)"
    assert told.stderr.startswith(f"oam-mosaic: The UI cannot use port {wanted}: {why}.\n")


def test_the_ui_takes_its_port_from_the_env_file_too(tmp_path: Path) -> None:
    project = a_project(tmp_path)
    (project / ".env").write_text("PORT=70000\n")
    told = run(project / "scripts" / "ui", cwd=tmp_path, **prepared(tmp_path, {}))
    assert told.returncode == 2
    assert told.stderr.startswith("oam-mosaic: The UI cannot use port 70000: it is not a port number")


def test_paths_count_from_the_folder_of_whoever_starts_a_run(tmp_path: Path) -> None:
    shown = ("$*", "$PWD", "$STAC_ITEMS", "$MOSAIC_STORE", "${DAGSTER_HOME# }", "${TIPPECANOE-unset}")
    show = "".join(f'echo "{each}"; ' for each in shown) + "exit 3"
    told = run(
        "run",
        "--confirm",
        "why not",
        cwd=tmp_path,
        STAC_ITEMS="my items.ndjson",
        MOSAIC_STORE="/elsewhere",
        DAGSTER_HOME=" ",
        **prepared(tmp_path, {"oam-mosaic": show}),
    )
    assert told.returncode == 3, told.stderr
    assert told.stdout.splitlines() == [
        "build --confirm why not",
        str(REPOSITORY),
        f"{tmp_path}/my items.ndjson",
        "/elsewhere",
        "",
        "unset",
    ]


def test_a_finished_run_names_commands_that_can_be_given_as_they_stand(tmp_path: Path) -> None:
    project = a_project(tmp_path)
    (project / "viewer" / "dist").mkdir(parents=True)
    script = project / "scripts" / "run"
    given = {"STAC_ITEMS": "my items.ndjson", "DAGSTER_HOME": " ", "MOSAIC_STORE": "", "MOSAIC_SCRATCH": "/s"}
    programs = prepared(tmp_path, {"oam-mosaic": "exit 0"})
    told = run(script, cwd=tmp_path, **given, **programs)
    assert told.returncode == 0
    items = str(tmp_path / "my items.ndjson").replace(" ", "\\ ")
    named = f"  export STAC_ITEMS={items} MOSAIC_SCRATCH=/s\n  scripts/ui "
    assert f"now:\n  cd {project}\n{named}" in told.stderr
    told = run(script, cwd=project, **given, **programs)
    assert "now:\n  export STAC_ITEMS=" in told.stderr, "one is there already"
    assert "  PATH=$(scripts/install-martin):$PATH .venv/bin/oam-mosaic serve\n" in told.stderr


def test_of_two_that_build_the_page_at_once_one_waits_for_the_other(tmp_path: Path) -> None:
    project, log = a_project(tmp_path), tmp_path / "log"
    (project / "viewer").mkdir()
    (project / "viewer" / "package-lock.json").touch()
    npm = (
        f'echo "$@" >>{log} && mkdir running || exit 39; sleep 0.3; rmdir running; '
        "mkdir -p node_modules dist && touch node_modules/.package-lock.json dist/index.html"
    )
    programs = prepared(tmp_path, {"node": "exit 0", "npm": npm})
    path = f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}"
    environment = {**environment_of(tmp_path), **programs, "PATH": path}
    script = project / "scripts" / "build-viewer"
    both = [subprocess.Popen([script], env=environment, cwd=tmp_path) for _ in range(2)]
    assert [each.wait(PATIENCE_SECONDS) for each in both] == [0, 0]
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["ci", "run"]


def test_packages_that_cannot_be_installed_are_said_with_what_a_proxy_needs(tmp_path: Path) -> None:
    locked = (REPOSITORY / "requirements-build.lock").read_text()
    version = re.search(r"^uv==(\S+)", locked, re.MULTILINE)
    assert version is not None
    uv = f'[ "$1" != --version ] || exec echo "uv {version[1]}"; echo "invalid certificate" >&2; exit 2'
    environment = prepared(tmp_path, {"uv": uv})
    (tmp_path / "venv" / ".prepared").unlink()
    path = f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}"
    told = run("run", cwd=tmp_path, PATH=path, **environment)
    assert told.returncode == 2
    *_, first, last = told.stderr.splitlines()
    assert first == "invalid certificate"
    assert last.endswith("set SSL_CERT_FILE and PIP_CERT to its certificate.")
    assert "\x1b" not in told.stderr, "what is no terminal gets plain lines"


def test_an_installation_that_failed_half_way_does_not_pass_for_the_one_before_it(tmp_path: Path) -> None:
    locked = (REPOSITORY / "requirements-build.lock").read_text()
    version = re.search(r"^uv==(\S+)", locked, re.MULTILINE)
    assert version is not None
    project, asked, is_broken = a_project(tmp_path), tmp_path / "asked", tmp_path / "is_broken"
    shutil.copyfile(REPOSITORY / "requirements-build.lock", project / "requirements-build.lock")
    uv = f'[ "$1" != --version ] || exec echo "uv {version[1]}"; echo "$*" >>{asked}; [ ! -e {is_broken} ]'
    environment = prepared(tmp_path, {"uv": uv, "oam-mosaic": "exit 3"})
    path = f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}"
    lock, script = project / "requirements.lock", project / "scripts" / "run"
    with lock.open("a") as upgraded:
        upgraded.write("# another\n")
    is_broken.touch()
    assert run(script, cwd=tmp_path, PATH=path, **environment).returncode == 2
    assert len(asked.read_text().splitlines()) == 1

    is_broken.unlink()
    shutil.copyfile(REPOSITORY / "requirements.lock", lock)
    assert run(script, cwd=tmp_path, PATH=path, **environment).returncode == 3
    assert asked.read_text().splitlines()[1].startswith("pip sync ")


@pytest.mark.parametrize(("lost", "links_to"), [("python", "/gone/python3"), ("oam-mosaic", None)])
def test_an_environment_whose_interpreter_is_gone_is_made_anew(
    tmp_path: Path, lost: str, links_to: str | None
) -> None:
    """After an upgrade removed the Python that it links to, or the folder was moved."""
    locked = (REPOSITORY / "requirements-build.lock").read_text()
    version = re.search(r"^uv==(\S+)", locked, re.MULTILINE)
    assert version is not None
    programs, kept, asked = tmp_path / "venv" / "bin", tmp_path / "kept", tmp_path / "asked"
    made = f'[ "$1" != venv ] || mv -f {kept} {programs / lost}'
    uv = f'[ "$1" != --version ] || exec echo "uv {version[1]}"; echo "$*" >>{asked}; {made}'
    environment = prepared(tmp_path, {"uv": uv, "oam-mosaic": "exit 3"})
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    path = f"{programs}:{os.environ['PATH']}"
    assert run("run", cwd=tmp_path, PATH=path, **environment).returncode == 3
    assert not asked.exists(), "nothing is installed while it works"
    (programs / lost).rename(kept)
    if links_to:
        (programs / lost).symlink_to(links_to)
    else:
        (programs / lost).write_text("#!/gone/venv/bin/python\n")
        (programs / lost).chmod(0o755)
    told = run("run", cwd=tmp_path, PATH=path, **environment)
    assert told.returncode == 3, told.stderr
    first, second, *_ = asked.read_text().splitlines()
    assert re.fullmatch(rf"venv --quiet --clear --python \S+ {tmp_path / 'venv'}", first)
    assert second.startswith("pip sync ")


def test_a_second_ui_on_one_home_is_refused_for_as_long_as_the_first_runs(tmp_path: Path) -> None:
    notes = [tmp_path / "daemon", tmp_path / "webserver"]
    environment = {"PORT": "0", "OAM_MOSAIC_VENV": str(tmp_path / "venv")}
    with a_ui(tmp_path, daemon=AT_WORK, webserver=AT_WORK) as ui:
        until(lambda: all(map(is_at_work, notes)))
        told = run("ui", cwd=tmp_path, **environment)
        assert told.returncode == 2
        assert told.stderr.startswith(
            f"Another scripts/ui is running on DAGSTER_HOME, {tmp_path / 'dagster'}; stop"
        )
        assert all(map(is_at_work, notes))
        ui.terminate()
        ui.wait(timeout=PATIENCE_SECONDS)
    (tmp_path / "venv" / "bin" / "dagster-daemon").write_text("#!/bin/sh\nexit 3\n")
    assert run("ui", cwd=tmp_path, **environment).returncode == 3


@pytest.mark.parametrize("dead", ["daemon", "webserver"])
def test_the_ui_ends_when_either_of_its_processes_does(tmp_path: Path, dead: str) -> None:
    other = "webserver" if dead == "daemon" else "daemon"
    ended = f"until [ -s '{tmp_path}/{other}' ]; do sleep 0.02; done; exit 3"
    with a_ui(tmp_path, **{dead: ended, other: AT_WORK}) as ui:
        assert ui.wait(timeout=PATIENCE_SECONDS) == 3
    assert not is_at_work(tmp_path / other)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_ui_ends_both_of_its_processes(tmp_path: Path, sign: signal.Signals) -> None:
    notes = [tmp_path / "daemon", tmp_path / "webserver"]
    with a_ui(tmp_path, daemon=AT_WORK, webserver=AT_WORK) as ui:
        until(lambda: all(map(is_at_work, notes)))
        ui.send_signal(sign)
        assert ui.wait(timeout=PATIENCE_SECONDS) == 128 + sign
    assert not any(map(is_at_work, notes))


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_comes_while_the_ui_starts_its_processes_ends_both(
    tmp_path: Path, sign: signal.Signals
) -> None:
    at_once = f"kill -{sign:d} $PPID; {AT_WORK}"
    with a_ui(tmp_path, daemon=at_once, webserver=AT_WORK) as ui:
        assert ui.wait(timeout=PATIENCE_SECONDS) == 128 + sign
    assert not any(map(is_at_work, [tmp_path / "daemon", tmp_path / "webserver"]))


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_a_run_ends_the_build_and_is_waited_for(tmp_path: Path, sign: signal.Signals) -> None:
    """Otherwise the build would go on by itself, and publish."""
    note, done = tmp_path / "build", tmp_path / "done"
    tidies = f"trap 'touch {done}; kill $at_work; exit {128 + sign}' {sign:d}"
    build = f"sleep 600 & at_work=$!; {tidies}; echo $at_work >'{note}'; wait"
    environment = {**environment_of(tmp_path), **prepared(tmp_path, {"oam-mosaic": build})}
    with subprocess.Popen([REPOSITORY / "scripts" / "run"], env=environment, start_new_session=True) as run:
        until(lambda: is_at_work(note))
        run.send_signal(sign)
        assert run.wait(timeout=PATIENCE_SECONDS) == 128 + sign
    assert done.exists()
    assert not is_at_work(note)


def test_ctrl_c_reaches_the_build_of_a_run(tmp_path: Path) -> None:
    note = tmp_path / "build"
    program = tmp_path / "build.py"
    program.write_text(
        f"import pathlib, time\npathlib.Path('{note}').write_text('it runs')\ntime.sleep(600)\n"
    )
    build = f"exec '{sys.executable}' '{program}'"
    environment = {**environment_of(tmp_path), **prepared(tmp_path, {"oam-mosaic": build})}
    script = REPOSITORY / "scripts" / "run"
    with subprocess.Popen([script], env=environment, start_new_session=True, stderr=subprocess.PIPE) as run:
        until(lambda: note.exists() and bool(note.read_text()))
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        _, told = run.communicate(timeout=PATIENCE_SECONDS)
    assert b"KeyboardInterrupt" in told
    assert run.returncode == 128 + signal.SIGINT


@pytest.mark.parametrize(
    ("stated", "meant"), [("data/store", "{here}/data/store"), ("/srv/store", "/srv/store"), ("", "")]
)
def test_relative_paths_in_the_environment_count_from_the_callers_folder(
    tmp_path: Path, stated: str, meant: str
) -> None:
    assert store_at_the_root(tmp_path, stated) == meant.format(here=tmp_path)


@pytest.mark.parametrize("stated", ["~", "~/store", "~somebody/store"])
def test_a_home_folder_is_left_to_the_command_which_knows_where_it_is(tmp_path: Path, stated: str) -> None:
    """As in a service's file of variables, in which no shell puts it in."""
    assert store_at_the_root(tmp_path, stated) == stated


def test_an_address_does_not_become_a_path_which_would_be_accepted(tmp_path: Path) -> None:
    assert store_at_the_root(tmp_path, "s3://my-bucket") == "s3://my-bucket"


def store_at_the_root(here: Path, stated: str) -> str:
    """What MOSAIC_STORE is once a script has gone to the project's folder."""
    script = f"source '{REPOSITORY / 'scripts' / 'lib.sh'}'; go_to_root; printf %s \"$MOSAIC_STORE\""
    return subprocess.run(
        ["bash", "-euc", script],
        env={"PATH": os.environ["PATH"], "MOSAIC_STORE": stated},
        cwd=here,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
