"""The benchmarks run: small, so that they do not rot. What they measure is not looked at here, what they decide is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def bench(name: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "bench" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_peers_are_attacked_and_pipit_stops_what_they_let_through() -> None:
    said = bench("peers.py", "--only", "E0", "--rounds", "1", "--seconds", "0.1", "--runs", "1")
    verdicts = [re.split(r"  +", line.strip())[-3:] for line in said.splitlines() if re.search(r" E\d\d", line)]
    filters, by_hand, pipit = ({row[n] for row in verdicts} for n in range(3))
    assert len(verdicts) >= 5 and pipit == {"stopped"}
    assert "tells" in filters and "stopped" in filters and "tells" in by_hand
    assert len(re.findall(r"^(?:additional_table_filters|WHERE by hand|Pipit) +[18] +\d+ ", said, re.MULTILINE)) == 6
    assert len(re.findall(r"^Pipit, (?:cached|shared) +(?:8|32) +\d+ ", said, re.MULTILINE)) == 4


def test_policies_are_measured_against_the_same_rows_without_them() -> None:
    """A difference between the answers with and without policies, or of the engine's own, ends the run with an error."""
    small = ("--rows=3000", "--tenants=3", "--environments=2", "--seconds=0.1", "--rounds=1", "--connections", "1")
    said = bench("policies.py", *small)
    assert re.search(r"^many: policy +\d+ +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+ +3 tenants, no policy$", said, re.MULTILINE), said
    assert re.search(r"^environments: 2 +\d+ ", said, re.MULTILINE), said


def test_a_read_is_measured_against_the_engine() -> None:
    said = bench("read.py", "--days", "2", "--seconds", "0.1", "--rounds", "1")
    assert len(re.findall(r"^ +[18] +\d+ ", said, re.MULTILINE)) == 2, said


def test_a_deploy_is_measured_against_the_engine() -> None:
    said = bench("deploy.py", "--pipes", "6", "--datasources", "2", "--views", "2", "--rounds", "1")
    assert re.search(r"^6 pipes, 4 data sources$", said, re.MULTILINE), said
    assert len(re.findall(r"^(?:first|unchanged|again|(?:engine, )?one pipe|engine) +[\d.]+ s$", said, re.MULTILINE)) == 6, said
    assert len(re.findall(r"^ratio, (?:first|one pipe) +[\d.]+$", said, re.MULTILINE)) == 2, said


def test_a_table_made_anew_is_measured_against_the_engine() -> None:
    said = bench("rebuild.py", "--rows", "5000", "--seconds", "0.1")
    assert len(re.findall(r"^(?:no|checked) casts +engine +[\d.]+ s +Pipit +[\d.]+ s +ratio", said, re.MULTILINE)) == 2, said
    assert re.search(r"^throttled +[\d.]+ s +p50 [\d.]+ ms before", said, re.MULTILINE), said


def test_two_versions_are_measured_against_each_other() -> None:
    small = ("--days", "2", "--seconds", "0.1", "--rounds", "1", "--connections", "1")
    said = bench("versions.py", str(ROOT), "--only", "read.py", *small)
    assert re.search(r"^read.py pipit +1 +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+$", said, re.MULTILINE), said


def test_what_anothers_bad_rows_cost_is_measured() -> None:
    small = ("--rows", "200", "--requests", "2", "--kinds", "type", "view", "json-view", "--rounds", "1", "--bad", "3")
    said = bench("isolation.py", *small)
    figures = r"( +[\d.]+ ms +[\d.]+ +[\d.]+){3}$"
    assert re.search(rf"^type +200 rows, +2 requests{figures}", said, re.MULTILINE), said
    assert re.search(rf"^view +200 rows, +2 requests{figures}", said, re.MULTILINE), said
    assert re.search(rf"^json-view +200 rows, +2 requests{figures}", said, re.MULTILINE), said
    assert re.search(r"^3 bad requests +[\d.]+ ms ", said, re.MULTILINE), said


def test_files_are_measured_against_the_engines_own_insert() -> None:
    said = bench("files.py", "--rows", "5000", "--rounds", "1", "--views", "1")
    assert len(re.findall(r"^(?:csv|ndjson|parquet) +\d+ +[\d.]+s +[\d.]+s +[\d.]+s +[\d.]+ +[\d.]+$", said, re.MULTILINE)) == 3, said


def test_a_topic_is_measured_against_the_engines_own_insert() -> None:
    said = bench("kafka.py", "--records", "3000", "--rounds", "1")
    assert len(re.findall(r"^[16] partitions?: [\d,]+ through the connector, [\d,]+ by the engine", said, re.MULTILINE)) == 2, said


def test_writing_is_measured_against_the_engine() -> None:
    """Rows that are not there in the end, or too many, end the run with an error."""
    said = bench("ingest.py", "--rows", "3000", "--rounds", "1", "--seconds", "0.3", "--tenants", "20")
    assert len(re.findall(r"^(?:one|hundred|views) +(?:1 MB|20,000 rows) +\d+ ms +\d+ ms +[\d.]+ +\d+ ms +[\d.]+$", said, re.MULTILINE)) == 6, said
    assert re.search(r"^20 tenants, two events each.* [\d.]+ of the rate of one tenant$", said, re.MULTILINE), said
    assert re.search(r"^single events on 64 connections: \d+/s, [\d.]+ of an empty 202", said, re.MULTILINE), said
    assert len(re.findall(r"^an event is found .* after \d+ ms \(p50\)", said, re.MULTILINE)) == 2, said
