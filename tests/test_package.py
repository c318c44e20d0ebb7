"""What is published: the distribution `pipit-analytics`, built, installed in an empty environment, and used.

The environment holds the wheel and what the wheel says that it needs, nothing of the development tools: a module that
the wheel lacks, or a package that it does not name, is missed here.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from processes import Served

ROOT = Path(__file__).parent.parent
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA = re.compile(r";.*\bextra\b")
_OWN_EXTRAS = re.compile(r"\[([^\]]*)\]")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needed(found: Distribution, seen: dict[str, Distribution], extras: str = "") -> None:
    """The distribution and, transitively, what it requires here."""
    seen[found.metadata["Name"].lower()] = found
    for requirement in found.requires or []:
        asked = _EXTRA.search(requirement)
        if asked and not any(f"'{e.strip()}'" in asked[0] or f'"{e.strip()}"' in asked[0] for e in extras.split(",")):
            continue
        name = _NAME.match(requirement)
        assert name
        try:
            other = distribution(name[0])
        except ModuleNotFoundError:
            continue  # for another platform or version of Python
        if other.metadata["Name"].lower() not in seen:
            wanted = _OWN_EXTRAS.search(requirement.partition(";")[0])
            needed(other, seen, wanted[1] if wanted else "")


def link(found: Distribution, into: Path) -> None:
    """The files of an installed distribution, by their uppermost folder or file."""
    tops = {file.parts[0] for file in found.files or [] if ".." not in file.parts and file.parts[0] != "__pycache__"}
    for top in tops:
        here = into / top
        if not here.exists():
            here.symlink_to(Path(str(found.locate_file(top))))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment that has the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=folder)
    (packages,) = folder.glob("lib/python3*/site-packages")
    ours = Distribution.at(next(packages.glob("pipit_analytics-*.dist-info")))
    seen: dict[str, Distribution] = {}
    needed(ours, seen)
    for name, found in seen.items():
        if name != "pipit-analytics":
            link(found, packages)
    return folder / "bin"


def test_the_names(built: Path) -> None:
    """The distribution cannot be called pipit: that name is another project's. The package and the command are."""
    (wheel,) = built.glob("*.whl")
    (source,) = built.glob("*.tar.gz")
    assert wheel.name.startswith("pipit_analytics-") and source.name.startswith("pipit_analytics-")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "pipit = pipit.cli:main" in archive.read(entry).decode()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"pipit"}
    tracked = run("git", "ls-files", "platform/pipit", cwd=ROOT).split()
    assert {name.removeprefix("platform/") for name in tracked} <= set(names)


def test_the_source_distribution(built: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "tests/test_package.py"} <= names
    assert not [name for name in names if name.startswith((".venv", ".pipit", ".git/", "build/"))]


def test_a_newcomers_first_steps(installed: Path, tmp_path: Path) -> None:
    pipit = installed / "pipit"
    where = run(installed / "python", "-c", "import pipit; print(pipit.__file__)", cwd=tmp_path)
    assert where.startswith(str(installed.parent))
    assert run(pipit, "--version", cwd=tmp_path).startswith("pipit ")
    run(pipit, "init", "project", cwd=tmp_path)
    served = Served(tmp_path)
    served.start(pipit)
    try:
        status, answer = served.get("/v0/pipes/top_features.json")
        assert (status, answer["rows"]) == (200, 0), answer
    finally:
        served.stop()


def test_what_is_locked_is_what_is_allowed() -> None:
    """`constraints.txt` names a version of everything that pyproject.toml asks for, within its range (`make lock`)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    locked: dict[str, set[str]] = {}
    for line in lines:
        if line.strip() and not line.startswith("#"):
            name, _, version = line.partition(";")[0].strip().partition("==")
            locked.setdefault(canonicalize_name(name), set()).add(version)
    extras = [one for group in project["optional-dependencies"].values() for one in group]
    for text in [*project["dependencies"], *extras]:
        asked = Requirement(text)
        if asked.name == project["name"]:
            continue
        versions = locked.get(canonicalize_name(asked.name))
        assert versions and all(asked.specifier.contains(v) for v in versions), f"{text}: run `make lock`"
