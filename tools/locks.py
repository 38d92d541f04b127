"""Writes the lock files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tools.environment import LOCKS, MODEL_LOCK, PYTHON, ROOT, TaskError, create_venv, install


def lock(arguments: list[str]) -> int:
    """Resolve for every supported Python and system at once; the files name no index, address or path."""
    if not PYTHON.exists():
        create_venv()  # an installer needs one to work on
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        uv = shutil.which("uv")
        if not uv:
            install("--target", folder, "uv")
            uv = str(Path(folder, "bin", "uv"))
        project = "pyproject.toml"
        write_lock(uv, LOCKS["run"], project, "--group", "build", *arguments)
        write_lock(uv, LOCKS["dev"], project, "--group", "dev", "--constraints", LOCKS["run"].name, *arguments)
        write_lock(uv, MODEL_LOCK, "--group", "model", *arguments)
    return 0


def write_lock(uv: str, path: Path, *arguments: str) -> None:
    options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate"]
    command = [uv, "pip", "compile", "--no-config", "--quiet", *options, *arguments]
    done = subprocess.run([*command, "--output-file", path.name], cwd=ROOT, check=False)
    if done.returncode:
        raise TaskError(f"could not write {path.name}; the reason is above")
