// The page: who is looking, the token, and the charts, drawn again every few seconds.
import { claims, read, session } from "./api.js";
import { attack } from "./attack.js";
import * as charts from "./charts.js";
import { element, number, table, words } from "./dom.js";
import { Inside } from "./inside.js";

const REFRESH = 4000;
const SLOW_EVERY = 4; // what moves slowly is read every fourth round
const money = (value) => `€ ${Number(value).toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
const at = (id) => document.getElementById(id);

let viewers = [];
let viewer = null;
let round = 0;
let running = null; // AbortController of the round in progress
let timer = 0;
let updated = 0;
let inside = null; // the side panel, where the server has one

// ---- what is drawn: box, endpoint, parameters, how, and whether it moves slowly

const PARTS = [
  { box: "active-users", pipe: "active_users", draw: charts.activeUsers },
  { box: "top-features", pipe: "top_features", draw: charts.topFeatures },
  { box: "latency", pipe: "latency_percentiles", draw: charts.latency },
  { box: "funnel", pipe: "funnel", draw: charts.funnel, slow: true },
  { box: "retention", pipe: "retention", draw: charts.retention, slow: true },
  { box: "teams", pipe: "teams", draw: teams },
  { box: "billing", pipe: "usage_for_billing", draw: billing, slow: true },
  { box: "feed", pipe: "recent_activity", parameters: { limit: "12" }, draw: feed },
];

function teams(box, rows) {
  box.replaceChildren(table("Teams", [["Team", (r) => words(r.name)], ["People", (r) => number(r.people), "number"], ["Events", (r) => number(r.uses), "number"]], rows));
}

function billing(box, rows) {
  const month = (r) => new Date(`${r.month}T00:00:00Z`).toLocaleDateString("en", { month: "long", year: "numeric", timeZone: "UTC" });
  box.replaceChildren(table("The bill by month", [
    ["Month", month], ["Plan", (r) => words(r.plan)], ["People", (r) => `${number(r.active_users)} of ${number(r.seats)}`, "number"],
    ["Events", (r) => number(r.events), "number"], ["Included", (r) => number(r.included_events), "number"],
    ["Base", (r) => money(r.base_price), "number"], ["Extra", (r) => money(r.extra_price), "number"], ["Total", (r) => money(r.total), "number strong"],
  ], rows));
}

function feed(box, rows) {
  box.replaceChildren(...rows.map((r) =>
    element("li", { class: r.status >= 400 ? "failed" : undefined },
      element("time", { datetime: `${r.timestamp.replace(" ", "T")}Z` }, new Date(`${r.timestamp.replace(" ", "T")}Z`).toLocaleTimeString("en", { hour12: false })),
      element("span", { class: "what" }, words(r.action)),
      element("span", { class: "whom" }, `${r.user_id.split("@")[0]}, ${r.team}`))));
}

function figures(answers) {
  const today = answers.active_users?.at(-1);
  const features = answers.top_features;
  if (!today || !features) return;
  const events = features.reduce((sum, row) => sum + Number(row.events), 0);
  const failed = features.reduce((sum, row) => sum + Number(row.errors), 0);
  const shown = [
    ["People today", number(today.daily)], ["In 7 days", number(today.weekly)], ["In 30 days", number(today.monthly)],
    ["Events in 30 days", number(events)], ["Failed", `${number((100 * failed) / Math.max(events, 1), 2)}%`],
  ];
  at("figures").replaceChildren(...shown.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

// ---- the customers side by side: the same requests, each with that customer's own token

const BESIDE = [
  ["People in 30 days", "active_users", (rows) => number(rows.at(-1)?.monthly ?? 0)],
  ["Events in 30 days", "top_features", (rows) => number(rows.reduce((sum, row) => sum + Number(row.events), 0))],
  ["Used most", "top_features", (rows) => (rows[0] ? words(rows[0].feature) : "")],
  ["Teams", "teams", (rows) => number(rows.length)],
  ["This month's bill", "usage_for_billing", (rows) => (rows[0] ? `€\u00a0${number(rows[0].total)}` : "")],
];

async function beside(signal) {
  const customers = viewers.filter((v) => !v.team);
  const pipes = [...new Set(BESIDE.map(([, pipe]) => pipe))];
  const columns = await Promise.all(customers.map(async (v) => {
    const answers = await Promise.all(pipes.map((pipe) => read(v.token, pipe, {}, signal)));
    return new Map(pipes.map((pipe, index) => [pipe, answers[index].data]));
  }));
  if (columns.some((column) => [...column.values()].includes(null))) return; // the next round tries again
  at("beside").replaceChildren(element("table", {},
    element("caption", { class: "hidden" }, "Customers side by side"),
    element("thead", {}, element("tr", {}, element("td"), ...customers.map((v) => element("th", { scope: "col", class: v.customer === viewer.customer ? "number mine" : "number" }, v.label)))),
    element("tbody", {}, ...BESIDE.map(([name, pipe, value]) => element("tr", {}, element("th", { scope: "row" }, name),
      ...columns.map((column, index) => element("td", { class: customers[index].customer === viewer.customer ? "number mine" : "number" }, value(column.get(pipe)))))))));
}

// ---- the state of things

function say(state, text) {
  at("state").dataset.state = state;
  if (at("state-text").textContent !== text) at("state-text").textContent = text;
}

function notice(text) {
  at("notice").hidden = !text;
  at("notice").textContent = text;
  document.body.classList.toggle("stale", Boolean(text));
}

const TROUBLE = {
  0: ["The server does not answer", "The server does not answer. This page goes on by itself when it is back."],
  503: ["The engine is starting again", "The engine is starting again, which takes a few seconds. This page goes on by itself; events that come in meanwhile are kept."],
  429: ["A little too fast", "The server asked for fewer requests. This page waits and goes on by itself."],
};

// ---- one round: read everything that is due, draw it, come again

async function refresh() {
  clearTimeout(timer);
  running?.abort();
  const control = (running = new AbortController());
  const who = viewer;
  const due = PARTS.filter((part) => !part.slow || round % SLOW_EVERY === 0);
  let answers;
  try {
    answers = await Promise.all(due.map((part) => read(who.token, part.pipe, part.parameters, control.signal)));
  } catch {
    return; // somebody else is looking now
  }
  const trouble = answers.map((a) => a.status).find((status) => status in TROUBLE || status >= 500);
  const expired = answers.every((a) => a.status === 403 || a.status === 401);
  if (expired && (await renew())) return;
  if (trouble !== undefined) {
    const [short, long] = TROUBLE[trouble] ?? ["The server has a problem", `The server answered ${trouble}. This page tries again.`];
    say("trouble", short);
    notice(long);
    timer = setTimeout(refresh, 1000);
    return;
  }
  const byPipe = {};
  due.forEach((part, index) => {
    const { status, data, error } = answers[index];
    const box = at(part.box);
    if (data) {
      byPipe[part.pipe] = data;
      if (data.length) part.draw(box, data);
      else if (!box.firstChild) box.replaceChildren(element("p", { class: "empty" }, "No events yet"));
    } else {
      const text = status === 403 ? "This token may not read this. The server answers 403." : `${error || "An error"} (${status})`;
      box.replaceChildren(element(box.tagName === "OL" ? "li" : "p", { class: "empty" }, text));
    }
  });
  figures(byPipe);
  if (round % SLOW_EVERY === 0) beside(control.signal).catch(() => {}); // somebody else is looking now
  round += 1;
  updated = Date.now();
  notice(byPipe.active_users?.length === 0 ? "The sample events are on their way." : "");
  say("live", "Live");
  document.body.dataset.drawn = who.id;
  timer = setTimeout(refresh, REFRESH);
}

async function renew() {
  const fresh = (await session())?.viewers;
  const same = fresh?.find((v) => v.id === viewer.id);
  if (!same || same.token === viewer.token) return false;
  viewers = fresh;
  look(same);
  return true;
}

function look(at_viewer) {
  viewer = at_viewer;
  round = 0;
  document.documentElement.dataset.customer = viewer.customer;
  delete document.body.dataset.drawn;
  location.replace(`#${viewer.id}`);
  charts.forget();
  for (const { box } of PARTS) at(box).replaceChildren();
  at("figures").replaceChildren();
  at("attack-result").hidden = true;
  showToken();
  inside?.look(viewers, viewer);
  refresh();
}

function showToken() {
  const said = claims(viewer.token);
  const context = said.context ?? {};
  const rows = [
    ...Object.entries(context).map(([key, value]) => [key === "customer_id" ? "Customer" : words(key), String(value)]),
    ["May read", `${said.scopes.length} endpoints`],
    ["Good until", new Date(said.exp * 1000).toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hour12: false })],
  ];
  at("claims").replaceChildren(...rows.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  at("token-raw").textContent = viewer.token;
  at("token-payload").textContent = JSON.stringify(said, null, 2);
}

function showSwitch() {
  const choice = (v) => {
    const input = element("input", { type: "radio", name: "viewer", id: `viewer-${v.id}`, value: v.id, checked: v.id === viewer.id });
    input.addEventListener("change", () => look(viewers.find((other) => other.id === v.id)));
    return element("span", { class: "choice" }, input, element("label", { for: `viewer-${v.id}` }, v.label));
  };
  at("switch").replaceChildren(...viewers.map(choice));
}

at("attack").addEventListener("click", async () => {
  const button = at("attack");
  const who = viewer;
  const other = viewers.find((v) => v.customer !== who.customer);
  button.disabled = true;
  at("attack-result").hidden = false;
  at("attack-result").replaceChildren(element("p", {}, "Trying…"));
  try {
    const result = await attack(who, other);
    if (who === viewer) at("attack-result").replaceChildren(result);
  } finally {
    button.disabled = false;
  }
});

// Colours come from the style sheet; a change of theme draws again.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  charts.forget();
  round = 0;
  if (viewer) refresh();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && viewer && Date.now() - updated > REFRESH) refresh();
});

// A link to another viewer, or the browser's back button.
addEventListener("hashchange", () => {
  const wanted = viewers.find((v) => `#${v.id}` === location.hash);
  if (wanted && wanted !== viewer) {
    look(wanted);
    showSwitch();
  }
});

async function start() {
  const found = await session();
  if (found?.refused) {
    say("trouble", "Refused");
    notice(found.refused);
    return;
  }
  if (!found?.viewers?.length) {
    say("trouble", TROUBLE[0][0]);
    notice(TROUBLE[0][1]);
    setTimeout(start, 1000);
    return;
  }
  viewers = found.viewers;
  if (found.looks_inside) inside ??= new Inside(PARTS);
  const wanted = viewers.find((v) => `#${v.id}` === location.hash) ?? viewers[0];
  viewer = wanted;
  showSwitch();
  look(wanted);
}

start();
