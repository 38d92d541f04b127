"""The distribution: its files, and that it serves on its own."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.metadata import packages_distributions
from pathlib import Path
from urllib.parse import urljoin
from urllib.request import urlopen

import pytest
from packaging.utils import canonicalize_name

from tools.environment import LOCKS, ROOT

PACKAGES = ("server", "transports", "agents", "web")
WEB_FILES = {str(path.relative_to(ROOT)) for path in (ROOT / "web" / "static").rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with the wheel. It borrows the locked dependencies, so no network is needed.

    A path in a .pth file is searched, but its own .pth files aren't read: the checkout isn't found.
    """
    return environment_with(tmp_path_factory.mktemp("environment"), *built.glob("*.whl"))


def environment_with(folder: Path, *distributions: Path) -> Path:
    """Return a new environment in `folder`, with these wheels or the builds of these projects' folders."""
    venv.create(folder, with_pip=False)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--ignore-installed"]
    subprocess.run([*pip, *options, *map(str, distributions)], check=True)
    return folder


@contextmanager
def serving(
    environment: Path, folder: Path, *options: str, command: Sequence[str] = ("bin/askstream",), **variables: str
) -> Generator[str]:
    """Run `askstream serve` in this folder, on a free port. Yield its address, and stop it at the end."""
    program, *arguments = command
    with subprocess.Popen(
        [str(environment / program), *arguments, "serve", "--port", "0", *options],
        cwd=folder,
        env={"HOME": str(folder), "PATH": os.defpath, "PYTHONUNBUFFERED": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said: list[str] = []
        try:
            for line in process.stdout:
                said.append(line)
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    yield found[0]
                    return
            pytest.fail(f"the server ended without an address:\n{''.join(said)}")
        finally:
            process.terminate()


def get(url: str) -> str:
    with urlopen(url, timeout=10) as response:
        return response.read().decode()


def test_wheel_and_sdist_hold_the_web_files(built: Path) -> None:
    """All files that the page loads are packed, with the licences of its libraries."""
    assert "web/static/client.html" in WEB_FILES
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    in_wheel = {name.removeprefix("askstream/") for name in zipfile.ZipFile(wheel).namelist()}
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/src/askstream/")[2] for name in archive.getnames()}
    assert in_wheel >= WEB_FILES
    assert in_sdist >= WEB_FILES


def test_the_wheel_adds_one_package_and_its_metadata(built: Path) -> None:
    """Neither tests nor tools, nor a package with a common name, are installed beside a user's packages."""
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"askstream"}
    assert {name.split("/")[1] for name in names if name.startswith("askstream/")} == {
        "__init__.py", "py.typed", *PACKAGES
    }  # fmt: skip


def test_the_sdist_holds_no_leftovers(built: Path) -> None:
    """No environment, cache, database or log of the machine that built it."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert not [name for name in names if re.search(r"\.venv|__pycache__|\.db$|\.log$|\.coverage|\.askstream/", name)]


def test_the_installed_wheel_serves(environment: Path, tmp_path: Path) -> None:
    """From an empty folder, without a checkout: it is healthy, and every file the page names is there."""
    with serving(environment, tmp_path) as address:
        get(f"{address}/health")
        page = get(f"{address}/client")
        loaded = re.findall(r'(?:src|href)="([^"#]+)"', page)
        assert loaded
        for path in loaded:
            get(urljoin(f"{address}/client", path))


def test_the_installed_wheel_runs_as_a_module_too(environment: Path, tmp_path: Path) -> None:
    """`python -m askstream.server` is the same command, and runs the wheel's own code."""
    python = str(environment / "bin" / "python")
    command = subprocess.run(
        [python, "-m", "askstream.server", "serve", "--help"], cwd=tmp_path, capture_output=True, check=True
    )
    assert b"--port" in command.stdout
    where = subprocess.run(
        [python, "-c", "import askstream; print(askstream.__file__)"], cwd=tmp_path, capture_output=True, check=True
    )
    assert Path(where.stdout.decode().strip()).is_relative_to(environment)


def test_the_editable_install_offers_the_same_package_and_no_flat_name(tmp_path: Path) -> None:
    """From any folder `askstream` is this checkout, and none of our packages has a common name."""
    program = "import importlib.util as u, sys, askstream.server; print(askstream.server.__file__)\n"
    program += "print([name for name in sys.argv[1:] if u.find_spec(name)])"
    done = subprocess.run(
        [sys.executable, "-c", program, *PACKAGES], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    where, flat = done.stdout.splitlines()
    assert Path(where).samefile(ROOT / "server" / "__init__.py")
    assert flat == "[]"


def imported(package: str) -> set[str]:
    """Return the top-level names of all imports in a package's files."""
    names: set[str] = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import():
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                case ast.ImportFrom(module=str(module)):
                    names.add(module.partition(".")[0])
                case _:
                    pass
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_of_a_package_are_installed_for_serving(package: str) -> None:
    """Tests run with the developers' packages, `run` without them: this finds an import that works only here."""
    locked = set(re.findall(r"^[a-z0-9-]+(?===)", LOCKS["run"].read_text(), re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    locked |= {re.split(r"[\[>=<]", needed)[0] for extra in extras.values() for needed in extra}
    bringers = packages_distributions()
    for name in imported(package) - {"askstream"} - sys.stdlib_module_names:
        assert locked & {canonicalize_name(bringer) for bringer in bringers[name]}, name


def test_every_module_of_the_server_has_a_layer() -> None:
    """A module that the import contract doesn't name could import anything."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = set(re.findall(r"(?<=askstream\.server\.)\w+", " ".join(layers)))
    there = {path.stem for path in (ROOT / "server").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert there - {"__init__", "__pycache__"} == named
