"""The task runner, on a copy of itself in a folder whose name has a space, with an installer that keeps a record."""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.timing import PATIENCE
from tools.browser import find_browser
from tools.environment import LOCKS, MODEL_LOCK, ROOT, Profile
from tools.lanes import DEFAULT_LANES, MODEL_LANES, MOST_AT_ONCE, REST_LANES, cores, shared_options

# In place of uv. It records each call, and installs the command that the project would install.
UV = """#!/bin/sh
echo "$*" >> "$UV_RECORD"
eval "$UV_FIRST"
case "$*" in *" -e "*) printf '%s' "$PROGRAM" > .venv/bin/askstream ;; esac
"""

TELL = "import os, sys; print(os.getcwd(), *sys.argv[1:], sep='|'); sys.exit(7)"

# A build backend of the smallest kind, so that the real pip has a project to install without any index.
BACKEND = """
import zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{folder}/askstream-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("program.py", "def main():\\n    print('served')\\n")
        info = "askstream-1.dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: askstream\\nVersion: 1\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "entry_points.txt", "[console_scripts]\\naskstream = program:main\\n")
        wheel.writestr(info + "RECORD", "")
    return "askstream-1-py3-none-any.whl"
"""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder with dev.py and what it reads, and the environment in which to call it."""

    folder: Path
    environment: Mapping[str, str]

    def start(self, *arguments: str, cwd: Path | None = None, **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.folder / "dev.py"), *arguments],
            cwd=cwd or self.folder,
            env={**self.environment, **extra},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *arguments: str, cwd: Path | None = None, **extra: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        process = self.start(*arguments, cwd=cwd, **extra)
        out, err = process.communicate(timeout=3 * PATIENCE)
        return process.returncode, out, err

    def installs(self) -> list[str]:
        """Return what was installed since the last call: a lock's name, or `project`."""
        record = Path(self.environment["UV_RECORD"])
        calls = record.read_text().splitlines() if record.exists() else []
        record.unlink(missing_ok=True)
        return ["project" if " -e " in call else Path(call.split()[-1]).name for call in calls]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    folder = tmp_path / "a checkout"
    folder.mkdir()
    shutil.copy(ROOT / "dev.py", folder)
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for lock in (*LOCKS.values(), MODEL_LOCK):
        (folder / lock.name).touch()
    (folder / "pyproject.toml").write_text("[project]\n")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "uv").write_text(UV)
    (programs / "uv").chmod(0o755)
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "PIP_NO_INDEX": "1",
        "PROGRAM": TELL,
        "UV_FIRST": ":",
        "UV_RECORD": str(tmp_path / "record"),
    }
    return Checkout(folder, environment)


def test_the_first_run_installs_and_the_second_installs_nothing(checkout: Checkout) -> None:
    """The locked packages come first, then the project; what is installed is not checked again."""
    checkout.call("run")
    assert checkout.installs() == ["requirements.lock", "project"]
    checkout.call("run")
    assert checkout.installs() == []


def test_packages_are_installed_by_hash_and_alone(checkout: Checkout) -> None:
    """Only packages of the lock are installed, byte for byte; the project adds none."""
    checkout.call("run")
    of_lock, of_project = Path(checkout.environment["UV_RECORD"]).read_text().splitlines()
    assert "--require-hashes" in of_lock
    assert "--no-deps" in of_lock
    assert "--no-deps" in of_project
    assert "--no-build-isolation" in of_project


def test_the_program_gets_options_folder_and_exit_code(checkout: Checkout, tmp_path: Path) -> None:
    """`run` works from any folder, leaves the caller's folder alone, and ends as the program ends."""
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    code, out, _ = checkout.call("run", "--port", "0", cwd=elsewhere)
    assert (code, out) == (7, f"{elsewhere}|serve|--port|0\n")


def test_a_teams_packages_are_installed_once(checkout: Checkout) -> None:
    """Beside the locked ones, whose versions stay as they are; the program doesn't get the option."""
    (checkout.folder / "requirements.lock").write_text(
        f"kept==1 ; os_name == 'x' \\\n    --hash=sha256:{'0' * 64}\nb==2\n"
    )
    code, out, _ = checkout.call("run", "--with", "pandas", "--port", "0", "--with=numpy<3")
    assert (code, out) == (7, f"{checkout.folder}|serve|--port|0\n")
    *_, call = Path(checkout.environment["UV_RECORD"]).read_text().splitlines()
    assert call.endswith("pandas numpy<3")
    (constraints,) = re.findall(r"--constraint (.*) pandas", call)
    assert Path(constraints).read_text() == "kept==1 ; os_name == 'x'\nb==2\n"
    checkout.installs()
    checkout.call("run", "--with", "pandas")
    assert checkout.installs() == []
    checkout.call("run", "--with", "pandas", "--with", "polars")
    assert checkout.installs() == ["polars"]


def test_a_failed_package_is_tried_again(checkout: Checkout) -> None:
    checkout.call("run")
    code, _, err = checkout.call("run", "--with", "pandas", UV_FIRST="exit 1", PATH=f"{checkout.environment['PATH']}")
    assert code == 1
    assert "could not install the packages" in err
    checkout.installs()
    checkout.call("run", "--with", "pandas")
    assert checkout.installs() == ["pandas"]


@pytest.mark.parametrize("arguments", [("--with",), ("--with=",)])
def test_a_package_without_a_name_is_refused(checkout: Checkout, arguments: tuple[str, ...]) -> None:
    code, _, err = checkout.call("run", *arguments)
    assert code == 1
    assert "--with needs the name of a package" in err


def test_signals_reach_the_program(checkout: Checkout) -> None:
    """The program replaces dev.py, so it receives dev.py's signals."""
    process = checkout.start("run", PROGRAM="import signal; print('up', flush=True); signal.pause()")
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == -signal.SIGTERM


def test_developing_adds_to_serving_and_includes_it(checkout: Checkout) -> None:
    """`check` after `run` adds the tools to what is there; `run` after `check` needs nothing more."""
    checkout.call("run")
    kept = checkout.folder / ".venv" / "kept"
    kept.touch()
    checkout.installs()
    checkout.call("check")
    assert checkout.installs() == ["requirements-dev.lock", "project"]
    assert kept.exists()
    checkout.call("run")
    assert checkout.installs() == []


def test_another_lock_builds_the_environment_anew(checkout: Checkout) -> None:
    """A package that the lock no longer names is gone afterwards."""
    checkout.call("run")
    stale = checkout.folder / ".venv" / "stale"
    stale.touch()
    checkout.installs()
    (checkout.folder / "requirements.lock").write_text("# changed\n")
    checkout.call("run")
    assert checkout.installs() == ["requirements.lock", "project"]
    assert not stale.exists()


def test_another_pyproject_installs_only_the_project_again(checkout: Checkout) -> None:
    """New metadata or a new command costs a second, not a new environment."""
    checkout.call("run")
    checkout.installs()
    (checkout.folder / "pyproject.toml").write_text("[project]\nname = 'askstream'\n")
    checkout.call("run")
    assert checkout.installs() == ["project"]


def test_a_moved_checkout_is_set_up_again(checkout: Checkout, tmp_path: Path) -> None:
    """Scripts and the editable install name the folder, so they are made anew in the new one."""
    checkout.call("run")
    checkout.installs()
    moved = checkout.folder.rename(tmp_path / "moved")
    Checkout(moved, checkout.environment).call("run")
    assert checkout.installs() == ["requirements.lock", "project"]


@pytest.mark.parametrize("step", ["requirements.lock", " -e "])
def test_an_interrupted_set_up_is_begun_anew(checkout: Checkout, step: str) -> None:
    """Killed at either step, it leaves an environment that isn't trusted: half a package may be in it."""
    code, _, _ = checkout.call("run", UV_FIRST=f'case "$*" in *"{step}"*) kill -9 $PPID; exit 1 ;; esac')
    assert code == -signal.SIGKILL
    half = checkout.folder / ".venv" / "half"
    half.touch()
    checkout.installs()
    code, _, _ = checkout.call("run")
    assert code == 7
    assert checkout.installs() == ["requirements.lock", "project"]
    assert not half.exists()


def test_an_interrupted_addition_is_not_trusted_either(checkout: Checkout) -> None:
    """Tools that were being added may have left half a package, which installers count as a whole one."""
    checkout.call("run")
    checkout.call("check", UV_FIRST="kill -9 $PPID; exit 1")
    half = checkout.folder / ".venv" / "half"
    half.touch()
    checkout.call("check")
    assert not half.exists()


def test_two_at_once_set_up_once(checkout: Checkout, tmp_path: Path) -> None:
    """The second waits, reports that, and finds the work done."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    first = checkout.start("run", UV_FIRST=f'case "$*" in *requirements.lock*) cat "{gate}" ;; esac')
    with first, gate.open("w") as open_gate:  # opens once the first's installer reads
        second = checkout.start("run")
        with second:
            assert second.stderr is not None
            assert "waiting for another dev.py" in second.stderr.readline()
            open_gate.close()
            assert (first.wait(timeout=PATIENCE), second.wait(timeout=PATIENCE)) == (7, 7)
    assert checkout.installs() == ["requirements.lock", "project"]


def test_a_failed_install_reports_what_was_tried_and_is_not_trusted(checkout: Checkout) -> None:
    """When uv and pip both fail, dev.py names both commands and a remedy, and ends with 1."""
    (checkout.folder / "requirements.lock").write_text(f"absent==1 --hash=sha256:{'0' * 64}\n")
    code, out, err = checkout.call("run", UV_FIRST="exit 1")
    assert (code, out) == (1, "")
    assert re.search(r"Tried:\n  \S*/uv pip install .*\n  .* -m pip .*install", err)
    assert "run the same command again" in err
    assert "Traceback" not in err
    checkout.installs()
    checkout.call("run", UV_FIRST="exit 1")
    assert checkout.installs() == ["requirements.lock"]


def test_pip_alone_is_enough(checkout: Checkout) -> None:
    """Without uv, and with variables set that would lead pip astray, the real pip installs and the program runs."""
    (checkout.folder / "backend.py").write_text(BACKEND)
    (checkout.folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "askstream"\nversion = "1"\n'
    )
    code, out, err = checkout.call(
        "run", PATH="/usr/bin:/bin", PIP_USER="1", PIP_TARGET=str(checkout.folder / "astray")
    )
    assert (code, out) == (0, "served\n"), err


def test_an_unknown_task_is_refused_with_the_list(checkout: Checkout) -> None:
    """A typing error sets nothing up."""
    code, _, err = checkout.call("rum")
    assert code == 2
    assert "run, test, check" in err
    assert not (checkout.folder / ".venv").exists()


# In place of pytest: records its options, and fails if `FAILS` is one of them.
PYTEST = """
import os, sys
with open("calls", "a") as calls:
    print(*sys.argv[1:], sep="|", file=calls)
sys.exit(os.environ.get("FAILS") in sys.argv)
"""


@pytest.fixture
def lanes(checkout: Checkout) -> Callable[..., tuple[int, list[list[str]]]]:
    """Call `dev.py test` with these options. Return its exit code, and the options of each call of pytest."""
    (checkout.folder / "pytest.py").write_text(PYTEST)

    def call(*arguments: str, fails: str = "") -> tuple[int, list[list[str]]]:
        code, _, _ = checkout.call("test", *arguments, TEST_BROWSER="/bin/true", FAILS=fails)
        return code, [line.split("|") for line in (checkout.folder / "calls").read_text().splitlines()]

    return call


Called = Callable[..., tuple[int, list[list[str]]]]


def test_options_of_pytest_reach_it_unchanged(lanes: Called) -> None:
    """One call, with nothing added, and its exit code."""
    options = ["tests/web", "-k", "not serial", "-x"]
    code, calls = lanes(*options)
    assert (code, calls) == (0, [options])
    code, _ = lanes("-x", fails="-x")
    assert code == 1


@pytest.mark.parametrize("failing", ["", *(lane.options[1] for lane in DEFAULT_LANES)])
def test_a_failed_lane_fails_the_task_and_stops_no_other(lanes: Called, failing: str) -> None:
    """Both lanes run, and either one's failure is the exit code's."""
    code, calls = lanes(fails=failing)
    assert code == bool(failing)
    assert [call[1] for call in calls] == [lane.options[1] for lane in DEFAULT_LANES]


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("model", [False, True])
def test_each_test_is_in_one_lane_and_real_time_is_never_shared(*, serial: bool, long: bool, model: bool) -> None:
    """With any marks: no test is left out of all lanes, and CI runs none of them twice."""
    marks = {"serial": serial, "long": long, "model": model}
    marked = [lane for lane in DEFAULT_LANES + REST_LANES + MODEL_LANES if "-m" in lane.options]
    assert [lane.options[2:] for lane in marked] == [("--ignore=tests/bench",)] * len(marked)
    (chosen,) = [lane for lane in marked if eval(lane.options[1], {}, marks)]
    assert (chosen in MODEL_LANES) is model
    assert (chosen in DEFAULT_LANES) is not (long or model)
    assert not ((serial or model) and chosen.shared)


def test_a_real_model_is_installed_for_its_own_lane_only(checkout: Checkout, lanes: Called) -> None:
    """By hash, alone, once, and again where it wasn't finished; a browser isn't looked for."""
    lanes()
    lanes("--rest")
    lanes("--all")
    assert MODEL_LOCK.name not in checkout.installs()
    code, calls = lanes("--model")
    assert (code, calls[-1]) == (0, list(MODEL_LANES[0].options))
    call = Path(checkout.environment["UV_RECORD"]).read_text()
    assert "--force-reinstall --no-deps --require-hashes" in call
    assert checkout.installs() == [MODEL_LOCK.name]
    lanes("--model")
    assert checkout.installs() == []
    (checkout.folder / MODEL_LOCK.name).write_text("# another model\n")
    checkout.call("test", "--model", UV_FIRST="kill -9 $PPID; exit 1")
    assert checkout.installs() == [MODEL_LOCK.name]
    lanes("--model")
    assert checkout.installs() == [MODEL_LOCK.name]


def test_the_cores_share_the_tests(lanes: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process for each core and one more, up to a limit; a file's tests stay in one, and serial tests run alone."""
    monkeypatch.setattr("tools.lanes.cores", lambda: 3)
    assert shared_options(DEFAULT_LANES[0]) == ["-n", "4", "--dist", "loadfile"]
    monkeypatch.setattr("tools.lanes.cores", lambda: 64)
    assert shared_options(DEFAULT_LANES[0]) == ["-n", str(MOST_AT_ONCE), "--dist", "loadfile"]
    monkeypatch.setattr("tools.lanes.cores", lambda: 1)
    assert shared_options(DEFAULT_LANES[0]) == []
    monkeypatch.undo()
    _, (first, *others) = lanes()
    assert ("-n" in first) == (cores() > 1)
    assert not any("-n" in other for other in others)


def test_everything_is_measured_together(lanes: Called) -> None:
    """`--all` is the default and the rest; each lane adds to the coverage of those before it."""
    code, calls = lanes("--all")
    assert (code, len(calls)) == (0, len(DEFAULT_LANES + REST_LANES))
    assert ["--cov" in call for call in calls] == [True] * len(calls)
    assert ["--cov-append" in call for call in calls] == [False, *([True] * (len(calls) - 1))]


@pytest.mark.parametrize("path", ["dev.py", "tools/__init__.py"])
def test_an_older_python_can_read_the_file(path: str) -> None:
    """It must reach the error that names the Python that is needed."""
    ast.parse((ROOT / path).read_text(), feature_version=(3, 8))


def test_the_version_is_checked_before_other_files_are_read() -> None:
    """They may have what older Pythons can't read."""
    imports = [node for node in ast.parse((ROOT / "dev.py").read_text()).body if isinstance(node, ast.ImportFrom)]
    assert all((node.module or "").split(".")[0] in ("__future__", "typing", "tools") for node in imports)
    first = ast.parse((ROOT / "tools" / "__init__.py").read_text()).body
    assert [type(node) for node in first] == [ast.Expr, ast.Import, ast.If]


def locked(path: Path) -> dict[str, tuple[Requirement, list[str]]]:
    """Return a lock's entries: name to requirement and hashes."""
    entries = path.read_text().replace("\\\n", " ").splitlines()
    pairs = [
        (Requirement(entry.split(" --hash")[0]), re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry))
        for entry in entries
    ]
    return {canonicalize_name(requirement.name): (requirement, hashes) for requirement, hashes in pairs}


@pytest.mark.parametrize("lock", [*LOCKS.values(), MODEL_LOCK], ids=lambda path: path.name)
def test_a_lock_pins_everything_by_hash_and_names_no_place(lock: Path) -> None:
    """So that it works behind any mirror, and only locked files are installed."""
    assert not re.search(r"//|^\s*#|^\s*-(?!-hash)|@", lock.read_text(), re.MULTILINE)
    for requirement, hashes in locked(lock).values():
        assert [pin.operator for pin in requirement.specifier] == ["=="], requirement
        assert hashes, requirement


@pytest.mark.parametrize("profile", LOCKS)
def test_the_locks_satisfy_what_the_project_asks_for(profile: Profile) -> None:
    """A requirement that was added or raised without `dev.py lock` is found here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    own = groups["build"] if profile == "run" else [entry for entry in groups["dev"] if isinstance(entry, str)]
    entries = locked(LOCKS[profile])
    for wanted in map(Requirement, (*project["project"]["dependencies"], *own)):
        held, _ = entries[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(next(iter(held.specifier)).version), f"{wanted} against {held}"


def test_the_model_is_locked_as_the_project_asks_for_it() -> None:
    """Nothing of it is in the other locks, so nothing of it is served."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    entries = locked(MODEL_LOCK)
    for wanted in map(Requirement, project["dependency-groups"]["model"]):
        assert entries[canonicalize_name(wanted.name)][0].specifier == wanted.specifier
    assert not entries.keys() & (locked(LOCKS["run"]).keys() | locked(LOCKS["dev"]).keys())


def test_both_locks_agree() -> None:
    """Tests run on the same versions that are served."""
    serving, developing = locked(LOCKS["run"]), locked(LOCKS["dev"])
    assert {name: entry[0].specifier for name, entry in serving.items()} == {
        name: entry[0].specifier for name, entry in developing.items() if name in serving
    }


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Make a program of a line of shell. Return its path."""

    def make(line: str) -> str:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_the_named_browser_is_used(program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """TEST_BROWSER comes before all others on the machine."""
    path = program("exit 0")
    monkeypatch.setenv("TEST_BROWSER", path)
    assert find_browser() == path


def test_a_browser_that_does_not_start_is_no_browser(
    program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some systems have a stub under that name, or the file without its libraries."""
    monkeypatch.setenv("TEST_BROWSER", program("echo 'please install me'; exit 1"))
    assert find_browser() is None


def test_a_browser_of_playwrights_own_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads of `playwright install` lie below the home folder; the newest is used."""
    for version in ("1100", "1200"):
        path = tmp_path / f".cache/ms-playwright/chromium-{version}/chrome-linux64/chrome"
        path.parent.mkdir(parents=True)
        path.symlink_to("/bin/true")
    monkeypatch.delenv("TEST_BROWSER", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("tools.browser.BROWSERS", ("chromium",))
    assert find_browser() == str(tmp_path / ".cache/ms-playwright/chromium-1200/chrome-linux64/chrome")


@pytest.mark.parametrize(("required", "outcome"), [({}, "1 skipped"), ({"TEST_REQUIRE_BROWSER": "1"}, "1 error")])
def test_without_a_browser_a_test_skips_with_its_reason_or_fails(
    tmp_path: Path, required: dict[str, str], outcome: str
) -> None:
    """A missing browser is never silent, and in CI it is a failure."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_page.py").write_text("def test_page(chromium):\n    assert chromium\n")
    environment = {name: value for name, value in os.environ.items() if name != "TEST_REQUIRE_BROWSER"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rsfE", "-p", "no:cacheprovider", str(tmp_path)],
        env={**environment, **required, "TEST_BROWSER": str(tmp_path / "absent"), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in done.stdout
    assert "no Chromium or Chrome starts here" in done.stdout
