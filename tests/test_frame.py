"""The project's frame: import layers, packaging, the commands that the README names."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

from pipit.cli import app

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
PACKAGE = ROOT / "platform" / "pipit"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=180)


def test_a_package_imports_only_from_the_rows_above_its_own() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_has_its_row_in_the_layers() -> None:
    rows = "|".join(PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"])
    listed = set(re.findall(r"pipit\.(\w+)", rows))
    there = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert there - listed == {"__init__"}


def test_the_source_root_does_not_hide_the_standard_library() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    done = subprocess.run(
        [sys.executable, "-c", "import platform; print(platform.python_version())"],
        cwd=ROOT, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert re.match(r"\d+\.\d+", done.stdout), done.stderr


def test_the_command_is_there() -> None:
    (command,) = entry_points(group="console_scripts", name="pipit")
    assert callable(command.load())


def test_make_help_lists_what_the_readme_names() -> None:
    text = make("help").stdout
    for target in ("install", "demo", "test", "check", "help"):
        assert re.search(rf"^  make {target} +\S", text, re.MULTILINE), text


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "make test"
    assert re.search(r"^make test\b", (ROOT / "README.md").read_text(), re.MULTILINE)


def test_make_test_runs_lint_types_layers_and_all_tests() -> None:
    planned = make("--dry-run", "test")
    assert planned.returncode == 0, planned.stderr
    for step in ("ruff check", "/mypy", "lint-imports", "-m pytest"):
        assert step in planned.stdout
    assert PYPROJECT["tool"]["mypy"]["strict"] is True


@pytest.mark.parametrize("target", ["install", "check"])
def test_make_shows_what_it_waits_for_while_packages_come(target: str, tmp_path: Path) -> None:
    """On a fresh machine: a line says what comes, and pip shows how far it is. Both take a minute or more."""
    said = make("--dry-run", target, f"VENV={tmp_path / 'venv'}").stdout.splitlines()
    installs = [number for number, line in enumerate(said) if " pip install " in line]
    assert installs
    for number in installs:
        assert "--progress-bar on" in said[number] and not re.search(r"\s(?:-q+|--quiet)\b", said[number])
        assert re.match(r"\s*echo \"==> packages", said[number - 1]), said[number - 1]


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PYPROJECT["project"]["license"] == "Apache-2.0"


def test_the_changelog_has_the_version() -> None:
    assert f"\n## {PYPROJECT['project']['version']} " in (ROOT / "CHANGELOG.md").read_text()


def test_compose_names_pinned_images_and_existing_files() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"pipit", "own", "clickhouse", "kafka", "s3"}
    for service in services.values():
        assert service["restart"] == "unless-stopped"
        _, _, tag = service["image"].rpartition(":")
        assert re.match(r"v?\d+\.\d+", tag), service["image"]
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:"), "nothing is published beyond this machine"
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("name", ["pipit", "own"])
def test_the_containers_of_pipit_run_it_as_it_can_be_run(name: str) -> None:
    """Its command is one that `pipit serve` takes, on volumes that there are; nothing starts that is not used."""
    service = COMPOSE["services"][name]
    command, *options = service["command"]
    (serve,) = [one for one in app.registered_commands if one.name == command]
    assert serve.callback is not None
    known = {f"--{name}" for name in inspect.signature(serve.callback).parameters}
    assert {option for option in options if option.startswith("--")} <= known
    mounted = {volume.removesuffix(":ro").rpartition(":")[2] for volume in service["volumes"]}
    assert options[options.index("--data") + 1] in mounted
    assert {v.partition(":")[0] for v in service["volumes"] if not v.startswith("$")} <= set(COMPOSE["volumes"])
    assert service["depends_on"]["clickhouse"]["required"] is False
    assert set(service["environment"]) == {
        "PIPIT_ADMIN_TOKEN",
        "PIPIT_CLICKHOUSE_URL",
        "PIPIT_PRIVATE_URL_HOSTS",  # the store that the profile s3 starts
    }
    assert ("profiles" in service) is (name == "own")


def test_the_page_on_containers_names_what_there_is() -> None:
    page = (ROOT / "docs" / "containers.md").read_text()
    text = (ROOT / "compose.yaml").read_text()
    services, profiles = COMPOSE["services"], {p for s in COMPOSE["services"].values() for p in s.get("profiles", [])}
    assert set(re.findall(r"compose (?:exec|restart) (\w+)", page)) <= set(services)
    assert set(re.findall(r"compose (?:--profile \w+ )?up (\w+)", page)) == {"own", "pipit"}
    assert set(re.findall(r"--profile (\w+)", page)) <= profiles
    for variable in set(re.findall(r"\b(PIPIT_(?:PROJECT|ADMIN_TOKEN|CLICKHOUSE_URL)|CLICKHOUSE_PASSWORD)\b", page)):
        assert f"${{{variable}:-" in text, variable
    password = re.search(r"CLICKHOUSE_PASSWORD:-([\w-]+)}", text)
    assert password and f"pipit:{password[1]}@clickhouse:8123/" in page and f"pipit:{password[1]}@clickhouse:8123/" in text


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(docs/([\w/-]+\.md)\)", (ROOT / "README.md").read_text()))
    pages = {page.relative_to(ROOT / "docs").as_posix(): page.read_text() for page in (ROOT / "docs").rglob("*.md")}
    # Those that only include a file of the root are pages of the site.
    assert linked == {name for name, text in pages.items() if not text.startswith("```{include}")}
