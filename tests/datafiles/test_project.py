"""What only the whole project can tell, and where its files are found."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from pipit.datafiles import parse_project, read_project
from pipit.errors import ProjectError

SCHEMA = "SCHEMA >\n    a String\n"
KAFKA = "KAFKA_CONNECTION_NAME k\nKAFKA_TOPIC t\nKAFKA_GROUP_ID g\n"
NODE = "NODE n\nSQL >\n    SELECT 1\n"


def messages(files: dict[str, str]) -> list[str]:
    with pytest.raises(ProjectError) as caught:
        parse_project(files)
    return [str(error) for error in caught.value.errors]


BETWEEN_FILES: Final = pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"datasources/x.datasource": SCHEMA, "pipes/x.pipe": NODE},
            "pipes/x.pipe: The name 'x' is taken by datasources/x.datasource",
        ),
        ({"a/x.pipe": NODE, "b/x.pipe": NODE}, "b/x.pipe: The name 'x' is taken by a/x.pipe"),
        ({"n.datasource": SCHEMA, "x.pipe": NODE}, "x.pipe:1:1: Node 'n' has the name of a data source, n.datasource"),
        (
            {"x.pipe": NODE + "TYPE materialized\nDATASOURCE nowhere\n"},
            "x.pipe:5:1: Data Source 'nowhere' does not exist",
        ),
        (
            {"x.pipe": NODE + "TYPE copy\nTARGET_DATASOURCE nowhere\n"},
            "x.pipe:5:1: Data Source 'nowhere' does not exist",
        ),
        (
            {"y.pipe": NODE, "x.pipe": NODE + "TYPE materialized\nDATASOURCE y\n"},
            "x.pipe:5:1: 'y' is a pipe, and DATASOURCE needs a data source",
        ),
        ({"select.pipe": NODE}, "select.pipe: 'select' cannot be the name of a resource"),
        ({"a-b.datasource": SCHEMA}, "a-b.datasource: 'a-b' cannot be the name of a resource"),
        (
            {"e.datasource": SCHEMA, "e_quarantine.datasource": SCHEMA},
            "e_quarantine.datasource: The name 'e_quarantine' is taken: it is where the bad rows of 'e' go",
        ),
        (
            {
                "c.connection": "TYPE s3\nS3_REGION r\nS3_ARN a\n",
                "e.datasource": SCHEMA
                + "IMPORT_CONNECTION_NAME d\nIMPORT_BUCKET_URI s3://bucket/*.csv\nIMPORT_SCHEDULE @auto\n",
            },
            "e.datasource:3:1: Connection 'd' does not exist",
        ),
    ],
)


@BETWEEN_FILES
def test_errors_between_files(files: dict[str, str], message: str) -> None:
    assert messages(files) == [message]


@BETWEEN_FILES
def test_a_file_that_was_read_before_means_the_same_among_others(files: dict[str, str], message: str) -> None:
    for file, text in files.items():  # what reads well by itself is remembered
        with suppress(ProjectError):
            parse_project({file: text})
    test_errors_between_files(files, message)


def test_a_broken_data_source_is_not_an_error_of_the_pipes_that_use_it() -> None:
    found = messages(
        {"t.datasource": "SCHEMA >\n    a Boolean\n", "x.pipe": NODE + "TYPE materialized\nDATASOURCE t\n"}
    )
    assert found == ["t.datasource:2:7: Boolean type is not supported"]


def test_a_classic_project_without_connection_files_gets_a_warning() -> None:
    text = SCHEMA + "IMPORT_CONNECTION_NAME d\nIMPORT_BUCKET_URI s3://bucket/*.csv\nIMPORT_SCHEDULE @auto\n"
    found = [warning.message for warning in parse_project({"e.datasource": text}).warnings]
    assert "Connection 'd' does not exist in this project" in found


@pytest.mark.parametrize(
    "file",
    [
        "vendor/other/events.datasource",
        "vendor/other/datasources/events.datasource",
        "vendor/other/other.events.datasource",
        "datasources/other.events.datasource",
    ],
)
def test_shared_data_sources_have_their_workspace_in_their_name(file: str) -> None:
    text = "TOKEN theirs READ\n" + SCHEMA + "SHARED_WITH mine\n" + KAFKA
    project = parse_project({file: text, "events.datasource": SCHEMA})
    assert set(project.datasources) == {"events", "other.events"}
    shared = project.datasources["other.events"]
    assert (shared.name, shared.vendor, shared.file) == ("other.events", "other", file)
    assert (shared.tokens, shared.shared_with, shared.kafka) == ((), (), {})
    assert "__offset" in [column.name for column in shared.columns]  # the table has them all the same
    assert any("shared by another workspace" in w.message for w in project.warnings)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("vendor/tinybird/pipe_stats.datasource", "'tinybird.pipe_stats' is reserved"),
        ("organization.processed.datasource", "'organization.processed' is reserved"),
        ("vendor/system/numbers.datasource", "'system.numbers' cannot be the name of a shared data source"),
        ("a.b.c.datasource", "'a.b.c' cannot be the name of a shared data source"),
        ("vendor/other/select.datasource", "'other.select' cannot be the name of a shared data source"),
        ("vendor/other/third.events.datasource", "'third.events' cannot be the name of a shared data source"),
        ("vendor/my-team/events.datasource", "'my-team.events' cannot be the name of a shared data source"),
        ("a.b.pipe", "'a.b' cannot be the name of a resource"),
    ],
)
def test_names_of_shared_data_sources(file: str, message: str) -> None:
    text = "NODE n\nSQL >\n    SELECT 1\n" if file.endswith(".pipe") else SCHEMA
    assert [m for m in messages({file: text}) if message in m]


def test_one_shared_data_source_has_one_file_and_nothing_is_written_to_it() -> None:
    files = {"vendor/other/events.datasource": SCHEMA, "other.events.datasource": SCHEMA}
    assert "The name 'other.events' is taken by other.events.datasource" in messages(files)[0]
    view = "NODE n\nSQL >\n    SELECT 1 AS a\nTYPE materialized\nDATASOURCE other.events\n"
    found = messages({"other.events.datasource": SCHEMA, "v.pipe": view})
    assert found == ["v.pipe:5:1: 'other.events' is shared by another workspace, so nothing can be written to it"]


def test_targets_may_be_written_with_their_version() -> None:
    pipe = "NODE n\nSQL >\n    SELECT 'x' AS a\nTYPE copy\nTARGET_DATASOURCE t__v3\n"
    project = parse_project({"t.datasource": "VERSION 3\n" + SCHEMA, "p.pipe": pipe})
    assert project.datasources["t"].version == 3
    assert project.pipes["p"].nodes[0].target_datasource == "t"
    files = {"t.datasource": "VERSION 2\n" + SCHEMA, "p.pipe": pipe}
    assert "Data Source 't__v3' does not exist" in messages(files)[0]
    long = pipe.replace("__v3", "__v" + "9" * 5_000)
    assert "does not exist" in messages(files | {"p.pipe": long})[0]


def test_a_name_stands_for_one_resource_in_whatever_folder() -> None:
    files = {"pipes/x.pipe": NODE, "endpoints/x.pipe": NODE, "b/y.datasource": SCHEMA, "a/y.pipe": NODE}
    assert messages(files) == [
        "a/y.pipe: The name 'y' is taken by b/y.datasource",
        "pipes/x.pipe: The name 'x' is taken by endpoints/x.pipe",
    ]


def test_included_files_belong_to_a_project_and_alone_are_none(tmp_path: Path) -> None:
    (tmp_path / "includes").mkdir()
    (tmp_path / "includes" / "x.incl").write_text("TAGS a\n", encoding="utf-8")
    assert read_project(tmp_path) == {}
    (tmp_path / "e.datasource").write_text(SCHEMA, encoding="utf-8")
    assert read_project(tmp_path) == {"e.datasource": SCHEMA, "includes/x.incl": "TAGS a\n"}


def test_no_link_brings_a_file_of_elsewhere_in(tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / "includes").mkdir(parents=True)
    (root / "e.datasource").write_text(SCHEMA + "INCLUDE x.incl\n", encoding="utf-8")
    (tmp_path / "secret").write_text("DESCRIPTION secret\n", encoding="utf-8")
    (root / "includes" / "x.incl").symlink_to(tmp_path / "secret")
    with pytest.raises(ProjectError) as caught:
        read_project(root)
    assert [str(e) for e in caught.value.errors] == [
        "includes/x.incl: This link leaves the project's folder, and is not followed"
    ]


def test_files_of_other_kinds_are_kept_and_not_parsed() -> None:
    project = parse_project({"README.md": "SCHEMA", "tests/x.yaml": "- name: a", "a.datasource": SCHEMA})
    assert set(project.files) == {"README.md", "tests/x.yaml", "a.datasource"}
    assert list(project.datasources) == ["a"]


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(SCHEMA)


def test_files_are_found_to_depth_three_and_not_in_hidden_or_foreign_folders(tmp_path: Path) -> None:
    found = [
        "flat.datasource",
        "datasources/a.datasource",
        "web/endpoints/b.pipe",
        "a/b/c/d.pipe",
        "vendor/w/e.datasource",
    ]
    write(tmp_path, *found)
    write(
        tmp_path,
        ".git/x.datasource",
        ".venv/x.datasource",
        "own/pyvenv.cfg",
        "own/x.datasource",
        "node_modules/p/x.pipe",
        "tests/x.pipe",
        "web/fixtures/x.datasource",
        "a/b/c/d/too_deep.pipe",
        "README.md",
        ".hidden.pipe",
    )
    assert sorted(read_project(tmp_path)) == sorted(found)


def test_a_link_out_of_the_project_is_refused_and_never_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("top secret")
    write(tmp_path, "outside/x.datasource")
    project = tmp_path / "project"
    write(project, "real.datasource", "inner/i.datasource")
    (project / "leak.datasource").symlink_to(secret)
    (project / "pipes").symlink_to(tmp_path / "outside")
    (project / "data").symlink_to(tmp_path / "outside")
    (project / "inner" / "loop").symlink_to(project)
    (project / "again.datasource").symlink_to(project / "real.datasource")
    with pytest.raises(ProjectError) as caught:
        read_project(project)
    message = "This link leaves the project's folder, and is not followed"
    assert [str(error) for error in caught.value.errors] == [f"leak.datasource: {message}", f"pipes: {message}"]
    (project / "leak.datasource").unlink()
    (project / "pipes").unlink()
    assert read_project(project) == {
        "again.datasource": SCHEMA,
        "inner/i.datasource": SCHEMA,
        "real.datasource": SCHEMA,
    }


def test_what_cannot_be_read_is_told_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "latin.pipe").write_bytes(b"NODE a\nDESCRIPTION caf\xe9\n")
    (tmp_path / "large.pipe").write_bytes(b" " * 1_000_001)
    (tmp_path / "gone.pipe").symlink_to(tmp_path / "nothing")
    with pytest.raises(ProjectError) as caught:
        read_project(tmp_path)
    assert [str(error) for error in caught.value.errors] == [
        "gone.pipe: The file cannot be read: No such file or directory",
        "large.pipe: The file is larger than 1,000,000 bytes",
        "latin.pipe: The file is not UTF-8 text: line 2 holds the byte 0xe9",
    ]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="There is no such folder"):
        read_project(tmp_path / "nothing")
