"""What only the whole project can tell, and where its files are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipit.datafiles import parse_project, read_project
from pipit.errors import ProjectError

SCHEMA = "SCHEMA >\n    a String\n"
NODE = "NODE n\nSQL >\n    SELECT 1\n"


def messages(files: dict[str, str]) -> list[str]:
    with pytest.raises(ProjectError) as caught:
        parse_project(files)
    return [str(error) for error in caught.value.errors]


@pytest.mark.parametrize(
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
                + "IMPORT_CONNECTION_NAME d\nIMPORT_BUCKET_URI s3://b/*.csv\nIMPORT_SCHEDULE @auto\n",
            },
            "e.datasource:3:1: Connection 'd' does not exist",
        ),
    ],
)
def test_errors_between_files(files: dict[str, str], message: str) -> None:
    assert messages(files) == [message]


def test_a_broken_data_source_is_not_an_error_of_the_pipes_that_use_it() -> None:
    found = messages(
        {"t.datasource": "SCHEMA >\n    a Boolean\n", "x.pipe": NODE + "TYPE materialized\nDATASOURCE t\n"}
    )
    assert found == ["t.datasource:2:7: Boolean type is not supported"]


def test_a_classic_project_without_connection_files_gets_a_warning() -> None:
    text = SCHEMA + "IMPORT_CONNECTION_NAME d\nIMPORT_BUCKET_URI s3://b/*.csv\nIMPORT_SCHEDULE @auto\n"
    found = [warning.message for warning in parse_project({"e.datasource": text}).warnings]
    assert "Connection 'd' does not exist in this project" in found


def test_vendored_data_sources_stand_apart() -> None:
    project = parse_project({"vendor/other/events.datasource": SCHEMA, "events.datasource": SCHEMA})
    assert list(project.datasources) == ["events"]
    assert list(project.vendored) == ["other.events"]
    assert project.vendored["other.events"].vendor == "other"
    assert "deploys inert" in project.warnings[0].message


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
