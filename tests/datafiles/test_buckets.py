"""Which keys of a bucket a URI means."""

from __future__ import annotations

import time

import pytest

from pipit.datafiles.buckets import BadUri, format_of, parse_uri


@pytest.mark.parametrize(
    ("path", "takes", "leaves"),
    [
        ("*.csv", ["a.csv", ".csv", "a b'\"{}.csv"], ["x/a.csv", "a.csv.gz", "a.CSV"]),
        ("in/*.csv", ["in/a.csv"], ["in/x/a.csv", "a.csv", "in.csv"]),
        ("**/*.csv", ["a.csv", "x/a.csv", "x/y/a.csv", "/a.csv"], ["xa.csv/b", "a.tsv"]),
        ("in/**/b.csv", ["in/b.csv", "in/x/b.csv", "in/x/y/b.csv"], ["in/xb.csv", "inb.csv", "in/x/yb.csv"]),
        ("in/**", ["in/", "in/a", "in/x/a"], ["in", "out/a"]),
        ("in/", ["in/a", "in/x/a"], ["ina"]),
        ("", ["a", "x/y"], []),
        ("a**b", ["ab", "a/b", "axx/yyb"], ["a", "b/ab/c"]),
        ("**a*b", ["a/ab", "ab", "x/aab"], ["a/b/"]),
        ("d?.csv", ["d1.csv", "dé.csv"], ["d.csv", "d12.csv", "d/.csv"]),
        ("d[0-9a].csv", ["d7.csv", "da.csv"], ["db.csv", "d/.csv"]),
        ("d[!0-9].csv", ["da.csv"], ["d7.csv", "d/.csv"]),
        ("{a,b/*}.csv", ["a.csv", "b/x.csv"], ["b.csv", "c.csv"]),
        ("d{8..11}.csv", ["d8.csv", "d11.csv"], ["d08.csv", "d12.csv"]),
        ("d{08..11}.csv", ["d08.csv", "d11.csv"], ["d8.csv"]),
        ("x/{1..2}/{a,b}", ["x/1/a", "x/2/b"], ["x/3/a"]),
    ],
)
def test_a_pattern_means_these_keys(path: str, takes: list[str], leaves: list[str]) -> None:
    uri = parse_uri(f"s3://bucket/{path}")
    assert [key for key in takes if not uri.matches(key)] == []
    assert [key for key in leaves if uri.matches(key)] == []
    assert all(key.startswith(uri.prefix) for key in takes)


def test_only_what_can_match_is_listed() -> None:
    assert [parse_uri(f"gs://b-1/{p}").prefix for p in ("x/y*.csv", "x/{ab,ac}/1", "**", "x/y.csv")] == [
        "x/y",
        "x/a",
        "",
        "x/y.csv",
    ]
    assert parse_uri("gs://b-1/x").kind == "gcs" and parse_uri("S3://b-1/x").kind == "s3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bucket/*.csv", "begins with s3"),
        ("http://bucket/*.csv", "begins with s3"),
        ("s3://UPPER/x", "not the name of a bucket"),
        ("s3://a@b.example/x", "not the name of a bucket"),
        ("s3://", "not the name of a bucket"),
        ("s3://bucket/{a", "not closed"),
        ("s3://bucket/[a", "not closed"),
        ("s3://bucket/{a,{b,c}}", "inside of braces"),
        ("s3://bucket/{1..100000}", "no range"),
        ("s3://bucket/{1..100}{1..100}", "more than 1000"),
        ("s3://bucket/" + "x" * 2000, "longer than"),
    ],
)
def test_what_is_no_uri_is_told(text: str, message: str) -> None:
    with pytest.raises(BadUri, match=message):
        parse_uri(text)


def test_no_key_keeps_a_pattern_busy() -> None:
    uri = parse_uri("s3://bucket/" + "*a" * 40 + "**a?" * 20 + "z")
    started = time.monotonic()
    assert not uri.matches("a" * 1023 + "y")
    assert not uri.matches("a/" * 511 + "yz")
    assert time.monotonic() - started < 5  # by backtracking it would be years


def test_a_name_says_the_format() -> None:
    names = ["a.csv", "a.TSV.gz", "a.jsonl.zst", "x.y/a.parquet", "a.json", "a.txt", "csv", "a.gz", "x.csv/a"]
    assert [format_of(name) for name in names] == ["csv", "csv", "ndjson", "parquet", "ndjson", "", "", "", ""]
