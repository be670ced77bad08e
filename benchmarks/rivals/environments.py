"""Makes and finds what the rivals run in, all of it in ``.bench/``: a virtual environment each, and tcmalloc."""

from __future__ import annotations

import ctypes.util
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / ".bench"

#: Rival -> the Pythons that its pins were tried on, best first. The pins stand in ``<rival>.txt`` beside this file.
PYTHONS = {"recbole": ("3.11",), "rectools": ("3.11", "3.12")}

TCMALLOC = "libtcmalloc_minimal.so.4"
#: Debian's names of the package that holds it, newest release first.
TCMALLOC_PACKAGES = ("libtcmalloc-minimal4t64", "libtcmalloc-minimal4")


def bench_folder(*parts: str) -> Path:
    """A folder below ``.bench/``, made if need be; ``.bench/`` tells git to ignore itself."""
    folder = BENCH.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    (BENCH / ".gitignore").write_text("*\n")
    return folder


def environment(rival: str) -> Path:
    """The Python of a rival's environment, installed on first use and again when its pins change.

    Raises SystemExit, saying what to do, when no Python that it runs on is here, or when its pins cannot be installed.
    """
    pins = Path(__file__).with_name(f"{rival}.txt")
    folder = BENCH / "environments" / rival
    stamp, wanted = folder / "pins.sha256", hashlib.sha256(pins.read_bytes()).hexdigest()
    python = folder / "bin" / "python"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    bench_folder("environments")
    interpreter = _interpreter(rival)
    print(f"making {folder.relative_to(ROOT)}", file=sys.stderr)
    environ = clean_environ()
    subprocess.run([interpreter, "-m", "venv", "--clear", str(folder)], check=True, env=environ)
    install = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(pins)]
    if subprocess.run(install, env=environ, check=False).returncode:
        sys.exit(
            f"the pins of {rival} ({pins.relative_to(ROOT)}) could not be installed: see the lines above, or leave {rival} out of --systems"
        )
    stamp.write_text(wanted)
    return python


def _interpreter(rival: str) -> str:
    versions = PYTHONS[rival]
    if "{}.{}".format(*sys.version_info) in versions:
        return sys.executable
    for version in versions:
        found = shutil.which(f"python{version}")
        # pyenv puts a name on the PATH for every version it has, and most of them only say that they are not switched on.
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return found
    sys.exit(
        f"{rival} runs on Python {' or '.join(versions)} only: put a python{versions[0]} on the PATH, or leave {rival} out of --systems"
    )


def tcmalloc() -> str | None:
    """What to set LD_PRELOAD to, or None when tcmalloc is neither in ``.bench/`` nor installed."""
    own = sorted((BENCH / "tcmalloc").rglob(TCMALLOC))
    if own:
        return str(own[0])
    installed = ctypes.util.find_library("tcmalloc_minimal")
    return TCMALLOC if installed == TCMALLOC else None


def fetch_tcmalloc() -> str | None:
    """Unpack Debian's tcmalloc into ``.bench/`` unless it is here; needs apt but no rights, installs nothing."""
    if tcmalloc() or not shutil.which("apt-get") or not shutil.which("dpkg"):
        return tcmalloc()
    folder = bench_folder("tcmalloc")
    for package in TCMALLOC_PACKAGES:
        fetched = subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True, check=False)
        if fetched.returncode == 0:
            for archive in folder.glob("*.deb"):
                subprocess.run(["dpkg", "-x", str(archive), str(folder)], check=True)
            break
    return tcmalloc()


def clean_environ() -> dict[str, str]:
    """This process's environment without what would leak our packages or allocator into a rival."""
    leaks = ("PYTHONPATH", "PYTHONHOME", "LD_PRELOAD", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if key not in leaks}
