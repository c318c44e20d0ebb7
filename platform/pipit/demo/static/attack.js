// Tries to read another customer with this viewer's token, in every way a request can carry a parameter.
import { read, send } from "./api.js";
import { element } from "./dom.js";

// Up to yesterday: those days do not change while we compare.
function days() {
  const day = (back) => new Date(Date.now() - back * 86400000).toISOString().slice(0, 10);
  return { date_from: day(30), date_to: day(1) };
}

function attempts(other) {
  const range = days();
  const url = `/v0/pipes/top_features.json?${new URLSearchParams(range)}`;
  const form = new URLSearchParams({ ...range, customer_id: other.customer }).toString();
  return [
    ["In the address", `?customer_id=${other.customer}`, { url: `${url}&customer_id=${other.customer}` }],
    ["Twice", `?customer_id=…&customer_id=${other.customer}`, { url: `${url}&customer_id=me&customer_id=${other.customer}` }],
    ["In capitals", `?CUSTOMER_ID=${other.customer}`, { url: `${url}&CUSTOMER_ID=${other.customer}` }],
    ["Encoded", `?customer%5Fid=${other.customer}`, { url: `${url}&customer%5Fid=${other.customer}` }],
    ["As a list", `?customer_id[]=${other.customer}`, { url: `${url}&customer_id[]=${other.customer}` }],
    ["As SQL", "?customer_id=' OR 1=1 --", { url: `${url}&customer_id=${encodeURIComponent("' OR 1=1 --")}` }],
    ["In a form", `POST customer_id=${other.customer}`, { url: "/v0/pipes/top_features.json", method: "POST", body: form, type: "application/x-www-form-urlencoded" }],
    ["In JSON", `POST {"customer_id": "${other.customer}"}`, { url: "/v0/pipes/top_features.json", method: "POST", body: JSON.stringify({ ...range, customer_id: other.customer }), type: "application/json" }],
    ["SQL of one's own", "/v0/sql?q=SELECT * FROM events", { url: `/v0/sql?q=${encodeURIComponent("SELECT customer_id, count() FROM events GROUP BY 1 FORMAT JSON")}` }],
  ];
}

const total = (rows) => rows.reduce((sum, row) => sum + Number(row.events), 0).toLocaleString("en");

function verdict(answer, own) {
  if (answer.status === 200 && answer.data && JSON.stringify(answer.data) === own) return ["same", "Own rows, as before"];
  if (answer.status === 0 || answer.status === 503) return ["wait", "No answer just now"];
  if (answer.status >= 400) return ["refused", `Refused (${answer.status})`];
  return ["different", "A different answer!"];
}

export async function attack(viewer, other) {
  const mine = await read(viewer.token, "top_features", days());
  const theirs = await read(other.token, "top_features", days());
  if (!mine.data || !theirs.data) return element("p", {}, "The server does not answer just now. Try again in a moment.");
  const own = JSON.stringify(mine.data);
  const rows = [];
  for (const [name, request, { url, ...options }] of attempts(other)) {
    const [kind, text] = verdict(await send(viewer.token, url, options), own);
    rows.push(
      element("tr", { "data-verdict": kind },
        element("th", { scope: "row" }, name),
        element("td", {}, element("code", {}, request)),
        element("td", { class: "verdict" }, text)),
    );
  }
  const leaked = rows.some((row) => row.dataset.verdict === "different");
  return element("div", { "data-leaked": String(leaked) },
    element("p", {},
      `With the token of ${viewer.label}, asking for ${other.label}. Up to yesterday, ${viewer.label} has `,
      element("strong", {}, `${total(mine.data)} events`), ` in these 30 days; ${other.label} has ${total(theirs.data)}.`),
    element("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Attempts" },
      element("table", {},
        element("thead", {}, element("tr", {}, ...["Attempt", "Request", "Answer"].map((t) => element("th", { scope: "col" }, t)))),
        element("tbody", {}, ...rows))));
}
