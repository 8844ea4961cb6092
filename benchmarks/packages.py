"""Programs of others to compare with: as installed, else fetched by apt-get or pip into a cache of our own."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "exhaust-benchmarks"
_WITHIN: Final = 180.0
# The files that a program of that package looks for in /usr/share are there for it alone.
_SHARING: Final = ("unshare", "--map-root-user", "--mount", "sh", "-c", 'mount --bind "$0" /usr/share && exec "$@"')


class MissingError(Exception):
    """It cannot be had here; the text is one line that says why."""


def debian(package: str, program: str) -> list[str]:
    """Return what runs a program of a Debian package, which is unpacked, not installed, where it is not there."""
    if found := shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return [found]
    folder = unpacked(package)
    command = [*_SHARING, str(folder / "usr" / "share"), str(folder / "usr" / "bin" / program)]
    _run([*command, "--version"], folder, f"apt-get install {package}")
    return command


def unpacked(package: str) -> Path:
    """Return the folder in which a Debian package is unpacked, not installed."""
    folder, remedy = CACHE / package, f"apt-get install {package}"
    if not (folder / "usr").exists():
        with tempfile.TemporaryDirectory() as fetched:
            _run(["apt-get", "download", package], Path(fetched), remedy)
            folder.mkdir(parents=True, exist_ok=True)
            _run(["dpkg", "-x", str(next(Path(fetched).glob("*.deb"))), str(folder)], folder, remedy)
    return folder


def python(name: str, *requirements: str) -> Path:
    """Return the `bin` of a virtual environment that holds these packages."""
    folder = CACHE / f"{name}-python{sys.version_info.major}.{sys.version_info.minor}"
    done = folder / "done"
    if not done.exists() or done.read_text().split() != list(requirements):
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], Path("/"), "apt-get install python3-venv")
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *requirements]
        _run(pip, folder, f"pip install {' '.join(requirements)}")
        done.write_text("\n".join(requirements))
    return folder / "bin"


def java(least: int) -> Path:
    """Return the home of a Java that is new enough."""
    wanted = f"Java {least} is needed: apt-get install openjdk-{least}-jre-headless"
    found = shutil.which("java")
    if not found:
        raise MissingError(wanted)
    said = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < least:
        raise MissingError(f"{wanted} (there is {said.partition(chr(10))[0]!r})")
    return Path(found).resolve().parents[1]


def version(*command: str) -> str:
    """Return the version that a program says it has."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def _run(argv: list[str], folder: Path, remedy: str) -> None:
    try:
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, timeout=_WITHIN)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise MissingError(f"'{argv[0]}' cannot be run ({exc}): {remedy}") from exc
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2]
        raise MissingError(f"{remedy} ({last})")
