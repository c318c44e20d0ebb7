// The side panel: what runs for the viewer and for another one, and how their answers differ. For the admin token only,
// which a person types in: it is kept in this object and nowhere else, and sent to /demo/inspect alone.
import { lookInside } from "./api.js";
import { element } from "./dom.js";
import { coloured } from "./sql.js";

const ROWS = 60;
const SIGNS = { first: "−", second: "+", both: "" };
const at = (id) => document.getElementById(`inside-${id}`);
// The branches of a template that do not apply leave blank lines, which say nothing.
const lines = (sql) => sql.split("\n").filter((line) => line.trim());
const count = (rows) => `${rows.length} ${rows.length === 1 ? "row" : "rows"}`;
const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));

export class Inside {
  #admin = "";
  #viewers = [];
  #viewer = null;
  #parts;
  #asked = 0;
  #opener = null;

  constructor(parts) {
    this.#parts = parts;
    at("pipe").replaceChildren(...parts.map(({ pipe }) => element("option", { value: pipe }, pipe)));
    for (const { box, pipe } of parts) {
      const button = element("button", { type: "button", class: "plain what-runs", "data-pipe": pipe }, "What runs");
      button.addEventListener("click", () => this.#open(pipe, button));
      document.getElementById(box).closest("article").prepend(button);
    }
    at("close").addEventListener("click", () => this.#close());
    at("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#admin = at("admin").value.trim() || this.#admin;
      this.#show();
    });
    at("lock").addEventListener("click", () => this.#lock());
    at("pipe").addEventListener("change", () => this.#choose());
    at("other").addEventListener("change", () => this.#show());
    document.getElementById("inside").addEventListener("keydown", (event) => event.key === "Escape" && this.#close());
  }

  // Another viewer looks at the page now.
  look(viewers, viewer) {
    const other = at("other").value;
    this.#viewers = viewers;
    this.#viewer = viewer;
    const options = viewers.filter((v) => v !== viewer).map((v) => element("option", { value: v.id }, v.label));
    at("other").replaceChildren(...options, element("option", { value: "" }, "The workspace itself: every row"));
    const stays = viewers.some((v) => v.id === other && v !== viewer);
    at("other").value = stays ? other : viewers.find((v) => v.customer !== viewer.customer).id;
    if (!document.getElementById("inside").hidden) this.#show();
  }

  #open(pipe, opener) {
    this.#opener = opener;
    at("pipe").value = pipe;
    document.getElementById("inside").hidden = false;
    document.body.classList.add("looks-inside");
    (this.#admin ? at("close") : at("admin")).focus();
    this.#choose();
  }

  #close() {
    document.getElementById("inside").hidden = true;
    document.body.classList.remove("looks-inside");
    this.#opener?.focus();
  }

  #lock() {
    this.#admin = "";
    at("answer").replaceChildren();
    this.#showLock();
    at("admin").focus();
  }

  #choose() {
    const part = this.#parts.find(({ pipe }) => pipe === at("pipe").value);
    at("parameters").value = new URLSearchParams(part.parameters ?? {}).toString();
    this.#show();
  }

  #showLock() {
    at("unlock").hidden = Boolean(this.#admin);
    at("lock").hidden = !this.#admin;
    at("admin").value = "";
  }

  async #show() {
    const asked = (this.#asked += 1);
    this.#showLock();
    if (!this.#admin) return;
    const other = this.#viewers.find((v) => v.id === at("other").value) ?? { label: "The workspace itself", token: "" };
    const pair = [this.#viewer, other];
    const parameters = [...new URLSearchParams(at("parameters").value)];
    const answer = await lookInside(this.#admin, at("pipe").value, parameters, pair.map((v) => v.token));
    if (asked !== this.#asked || !this.#admin) return; // somebody else is looked at now, or nobody
    if (answer.views) {
      at("answer").replaceChildren(...compared(pair.map((v) => v.label), answer.views));
      return;
    }
    if (answer.status === 403) {
      this.#lock();
      at("answer").replaceChildren(element("p", { class: "refused" }, "The server refuses this token (403). Is it the workspace's admin token?"));
      return;
    }
    at("answer").replaceChildren(element("p", { class: "refused" }, `${answer.error || "An error"} (${answer.status})`));
  }
}

function compared(names, views) {
  const [first, second] = views;
  const legend = element("p", { class: "legend" },
    element("span", { class: "first" }, `${SIGNS.first} ${names[0]}`), " ", element("span", { class: "second" }, `${SIGNS.second} ${names[1]}`));
  const refused = views.flatMap((view, index) =>
    view.refused ? [element("p", { class: "refused" }, `${names[index]}: refused (${view.refused.status}). ${view.refused.error}`)] : []);
  const plans = views.map((view) => view.plan);
  const parts = refused.length ? [] : [
    ...statement(plans[0].sql, plans[1].sql),
    ...values("Bound values", names, plans.map((p) => p.parameters), "None are bound"),
    ...values("Row filters", names, plans.map((p) => p.filters), "None: every row is visible to both"),
    ...values("Settings", names, plans.map((p) => p.settings), "None", true),
  ];
  return [legend, ...parts, ...refused, ...answers(names, first.answer, second.answer)];
}

const heading = (text, note) => element("h3", {}, text, " ", element("span", { class: "note" }, note));

function statement(first, second) {
  if (first === second) {
    return [heading("Statement", "the same text for both"), element("pre", { class: "raw sql", tabindex: "0" }, ...coloured(lines(first).join("\n")))];
  }
  const marked = diff(lines(first), lines(second)).map(([side, text]) =>
    element("span", { class: `line ${side}` }, `${SIGNS[side] || " "} `, ...coloured(text), "\n"));
  return [heading("Statement", "the template gives them different texts"), element("pre", { class: "raw sql", tabindex: "0" }, ...marked)];
}

function values(title, names, [first, second], nothing, folded = false) {
  const keys = [...new Set([...Object.keys(first), ...Object.keys(second)])];
  const differ = (key) => shown(first[key] ?? null) !== shown(second[key] ?? null);
  const note = keys.length === 0 ? "" : keys.some(differ) ? `${keys.filter(differ).length} of ${keys.length} differ` : "the same for both";
  if (!keys.length) return [heading(title, ""), element("p", { class: "note" }, nothing)];
  const cell = (from, key, side) => element("td", { class: differ(key) ? side : undefined }, key in from ? element("code", {}, shown(from[key])) : element("span", { class: "note" }, "none"));
  const made = element("div", { class: "table", tabindex: "0", role: "group", "aria-label": title },
    element("table", {},
      element("thead", {}, element("tr", {}, ...["", ...names].map((name) => element("th", { scope: "col" }, name)))),
      element("tbody", {}, ...keys.map((key) => element("tr", {}, element("th", { scope: "row" }, element("code", {}, key)), cell(first, key, "first"), cell(second, key, "second"))))));
  if (!folded) return [heading(title, note), made];
  return [element("details", {}, element("summary", {}, `${title}: ${note}`), made)];
}

function answers(names, first, second) {
  const left = new Map();
  for (const row of second?.data ?? []) left.set(shown(row), (left.get(shown(row)) ?? 0) + 1);
  const rows = { first: [], both: [], second: [] };
  for (const row of first?.data ?? []) {
    const key = shown(row);
    if (left.get(key)) {
      left.set(key, left.get(key) - 1);
      rows.both.push(row);
    } else rows.first.push(row);
  }
  for (const row of second?.data ?? []) {
    const key = shown(row);
    if (left.get(key)) {
      left.set(key, left.get(key) - 1);
      rows.second.push(row);
    }
  }
  const meta = (first ?? second)?.meta;
  const note = `${count(rows.first)} only for ${names[0]}, ${rows.second.length} only for ${names[1]}, ${rows.both.length} the same for both`;
  if (!meta) return [];
  const numeric = new Set(meta.filter((c) => /^(Nullable\()?(U?Int|Float|Decimal)/.test(c.type)).map((c) => c.name));
  const listed = ["first", "second", "both"].flatMap((side) => rows[side].map((row) => [side, row]));
  return [
    heading("Rows", note),
    element("div", { class: "table rows", tabindex: "0", role: "group", "aria-label": "Rows" },
      element("table", {},
        element("thead", {}, element("tr", {}, element("th", { scope: "col" }, element("span", { class: "hidden" }, "Whose")), ...meta.map((c) => element("th", { scope: "col", class: numeric.has(c.name) ? "number" : undefined }, c.name)))),
        element("tbody", {}, ...listed.slice(0, ROWS).map(([side, row]) =>
          element("tr", { class: side, "data-side": side }, element("td", { class: "sign" }, SIGNS[side]),
            ...meta.map((c) => element("td", { class: numeric.has(c.name) ? "number" : undefined }, shown(row[c.name])))))))),
    ...(listed.length > ROWS ? [element("p", { class: "note" }, `The first ${ROWS} of ${listed.length} rows`)] : []),
  ];
}

// Lines of two texts in one list: [side, line]. The longest common subsequence; statements are short.
function diff(first, second) {
  const best = Array.from({ length: first.length + 1 }, () => new Array(second.length + 1).fill(0));
  for (let i = first.length - 1; i >= 0; i -= 1) {
    for (let j = second.length - 1; j >= 0; j -= 1) {
      best[i][j] = first[i] === second[j] ? best[i + 1][j + 1] + 1 : Math.max(best[i + 1][j], best[i][j + 1]);
    }
  }
  const found = [];
  let [i, j] = [0, 0];
  while (i < first.length || j < second.length) {
    if (i < first.length && j < second.length && first[i] === second[j]) {
      found.push(["both", first[i]]);
      i += 1;
      j += 1;
    } else if (j >= second.length || (i < first.length && best[i + 1][j] >= best[i][j + 1])) {
      found.push(["first", first[i]]);
      i += 1;
    } else {
      found.push(["second", second[j]]);
      j += 1;
    }
  }
  return found;
}
