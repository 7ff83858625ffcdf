"""The rooms of the package, and which may import which, as its own docstring states."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import oam_mosaic_assets

PACKAGE = Path(oam_mosaic_assets.__file__).parent

ALLOWED = {
    "core": {"core"},
    "errors": set[str](),
    "settings": {"settings", "core", "errors"},
    "gateways": {"gateways", "core", "errors", "settings"},
    "serving": {"serving", "gateways", "core", "errors", "settings"},
    "resources": {"resources", "gateways", "core", "errors", "settings"},
    "io_managers": {"io_managers", "resources", "gateways", "core", "errors", "settings"},
    "assets": {"assets", "io_managers", "resources", "gateways", "core", "errors", "settings"},
    "checks": {"checks", "assets", "io_managers", "resources", "gateways", "core", "errors", "settings"},
    "automation": {
        "automation",
        "checks",
        "assets",
        "io_managers",
        "resources",
        "core",
        "errors",
        "settings",
    },
}
"""What each room may import from the project; definitions and cli may import everything."""

CORE_LIBRARIES = {"cmap", "numpy", "shapely", "polars", "antimeridian", "pmtiles", "PIL", "google"}
"""Of google, only Protocol Buffers are installed."""

DAGSTER_ROOMS = {"resources", "io_managers", "assets", "checks", "automation", "definitions", "cli"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(module: Path) -> Iterator[str]:
    """Full names of everything that a module imports, at any depth."""
    yield from imported_in(ast.parse(module.read_text()), module)


def imported_in(tree: ast.AST, module: Path) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_work(module: Path) -> ast.Module:
    """A module without its `TYPE_CHECKING` blocks."""
    tree = ast.parse(module.read_text())
    tree.body = [
        each
        for each in tree.body
        if not (
            isinstance(each, ast.If) and isinstance(each.test, ast.Name) and each.test.id == "TYPE_CHECKING"
        )
    ]
    return tree


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(module: Path) -> None:
    room = room_of(module)
    for name in imported(module):
        top, *rest = name.split(".")
        if top == "oam_mosaic_assets" and room in ALLOWED and rest[0] != "__version__":
            assert rest[0] in ALLOWED[room], f"{room} imports {name}"
        if top == "dagster":
            assert room in DAGSTER_ROOMS, f"{room} imports dagster"
        if room == "core":
            assert top in {*sys.stdlib_module_names, *CORE_LIBRARIES, "oam_mosaic_assets"}, name


def test_the_package_itself_imports_nothing() -> None:
    assert list(imported(PACKAGE / "__init__.py")) == []


def test_what_is_imported_is_declared() -> None:
    """A package that only comes as a dependency of another may be gone with that one's next version."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    declared = {Requirement(each).name for each in project["dependencies"]}
    tops = {name.partition(".")[0] for module in modules() for name in imported_in(at_work(module), module)}
    others = tops - sys.stdlib_module_names - {PACKAGE.name}
    providers = packages_distributions()
    assert {name for name in others if declared.isdisjoint(providers.get(name, []))} == set()


def test_every_module_says_what_belongs_in_it() -> None:
    silent = [
        str(module.relative_to(PACKAGE))
        for module in modules()
        if module.name != "__init__.py" and not ast.get_docstring(ast.parse(module.read_text()))
    ]
    assert silent == []


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["doctor"],
        ["status"],
        ["releases"],
        ["hold", "--reason", "x"],
        ["resume"],
        ["takedown", "--list"],
        ["sample"],
        ["validate", "missing.pmtiles"],
        ["test-alerts"],
    ],
)
def test_light_commands_import_no_dagster(command: list[str], tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from oam_mosaic_assets.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('dagster' in sys.modules, file=sys.stderr)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, *command],
        cwd=tmp_path,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stderr.splitlines()[-1] == "False"
