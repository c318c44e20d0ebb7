"""The Python SDK's calls on a data source; prints what they answered, and what was in the table after each."""

import json
import os
import time
import urllib.request

from tinybird_sdk.client.base import TinybirdClient

URL, TOKEN, FOLDER = (os.environ[name] for name in ("URL", "TOKEN", "FOLDER"))
client = TinybirdClient({"base_url": URL, "token": TOKEN})


def rows() -> int:
    return client.sql("SELECT count() AS n FROM events FORMAT JSON")["data"][0]["n"]


def ended(job: dict) -> None:
    for _ in range(600):
        if get(f"/v0/jobs/{job['job_id']}")["status"] in ("done", "error"):
            return
        time.sleep(0.1)


def get(path: str) -> dict:
    request = urllib.request.Request(URL + path, headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request) as response:
        return json.loads(response.read())


found = {}
events = client.datasources
answer = events.append("events", {"file": f"{FOLDER}/first.csv"})
found["append"] = {"successful": answer["error"] is False, "rows": rows()}
answer = events.append("events", {"file": f"{FOLDER}/bad.csv"})
found["with a bad row"] = {"quarantine_rows": answer["quarantine_rows"], "rows": rows()}
events.replace("events", {"file": f"{FOLDER}/second.ndjson"})
found["replace"] = {"rows": rows()}
answer = events.delete("events", {"delete_condition": "id = 7", "dry_run": True})
found["dry run"] = {**answer, "rows": rows()}
ended(events.delete("events", {"delete_condition": "id = 7"}))
found["delete"] = {"rows": rows()}
events.truncate("events")
found["truncate"] = {"rows": rows()}
print(json.dumps(found))
