// The TypeScript SDK's calls on a data source; prints what they answered, and what was in the table after each.
import { createClient } from "@tinybirdco/sdk";

const { URL: url, TOKEN: token, FOLDER: folder } = process.env;
const client = createClient({ baseUrl: url, token });

async function rows() {
  return (await client.sql("SELECT count() AS n FROM events FORMAT JSON")).data[0].n;
}

async function ended(job) {
  for (let n = 0; n < 600; n++) {
    const response = await fetch(`${url}/v0/jobs/${job.job_id}`, { headers: { Authorization: `Bearer ${token}` } });
    if (["done", "error"].includes((await response.json()).status)) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const found = {};
const events = client.datasources;
let answer = await events.append("events", { file: `${folder}/first.csv` });
found["append"] = { successful: answer.error === false, rows: await rows() };
answer = await events.append("events", { file: `${folder}/bad.csv` });
found["with a bad row"] = { quarantine_rows: answer.quarantine_rows, rows: await rows() };
await events.replace("events", { file: `${folder}/second.ndjson` });
found["replace"] = { rows: await rows() };
answer = await events.delete("events", { deleteCondition: "id = 7", dryRun: true });
found["dry run"] = { ...answer, rows: await rows() };
await ended(await events.delete("events", { deleteCondition: "id = 7" }));
found["delete"] = { rows: await rows() };
await events.truncate("events");
found["truncate"] = { rows: await rows() };
console.log(JSON.stringify(found));
