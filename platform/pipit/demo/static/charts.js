// Draws rows of an endpoint into a card. Each function takes (box, rows) and may be called again with newer rows.
// Tooltips are drawn on the canvas ("richText"): the page's content policy allows no inline styles.
import * as echarts from "./echarts/echarts.esm.min.mjs";
import { element, number, table, words } from "./dom.js";

const charts = new Map(); // box -> chart

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { text: of("--text"), muted: of("--muted"), line: of("--line"), card: of("--card"), accent: of("--accent"), second: of("--second"), third: of("--third"), low: of("--accent-low"), onAccent: of("--on-accent") };
}

// `keys`: the names of the lines, in a legend that takes as many rows as it needs.
function draw(box, label, option, asTable, keys = []) {
  let chart = charts.get(box);
  if (!chart) {
    box.replaceChildren();
    const canvas = element("div", { class: "canvas", role: "img" });
    const details = element("details", { class: "as-table" }, element("summary", {}, "As a table"), element("div", { class: "table", tabindex: "0", role: "group", "aria-label": "The same as a table" }));
    if (keys.length) box.append(element("ul", { class: "keys" }, ...keys.map((name) => element("li", {}, name))));
    box.append(canvas, details);
    chart = { canvas, body: details.lastChild, details, instance: echarts.init(canvas, null, { renderer: "canvas" }), rows: null };
    new ResizeObserver(() => chart.instance.resize()).observe(canvas);
    details.addEventListener("toggle", () => chart.rows && details.open && chart.body.replaceChildren(chart.rows()));
    charts.set(box, chart);
  }
  const c = colours();
  chart.canvas.setAttribute("aria-label", label);
  chart.rows = asTable;
  if (chart.details.open) chart.body.replaceChildren(asTable());
  chart.instance.setOption({
    animation: !matchMedia("(prefers-reduced-motion: reduce)").matches,
    animationDuration: 400,
    textStyle: { fontFamily: "inherit", color: c.text },
    color: [c.accent, c.second, c.third],
    tooltip: { renderMode: "richText", backgroundColor: c.card, borderColor: c.line, textStyle: { color: c.text }, confine: true },
    ...option(c),
  }, { notMerge: false });
}

const axis = (c) => ({ axisLine: { lineStyle: { color: c.line } }, axisTick: { show: false }, axisLabel: { color: c.muted }, splitLine: { lineStyle: { color: c.line } } });
const day = (text) => new Date(`${text.slice(0, 10)}T00:00:00Z`).toLocaleDateString("en", { day: "numeric", month: "short", timeZone: "UTC" });

function lines(box, label, rows, x, series, columns) {
  const last = rows.at(-1) ?? {};
  const said = series.map(([name, key]) => `${name} ${number(last[key] ?? 0, 1)}`).join(", ");
  draw(box, `${label}. Latest: ${said}.`, (c) => ({
    grid: { left: 8, right: 16, top: 12, bottom: 4, containLabel: true },
    tooltip: { trigger: "axis", renderMode: "richText", backgroundColor: c.card, borderColor: c.line, textStyle: { color: c.text }, confine: true },
    xAxis: { type: "category", boundaryGap: false, data: rows.map((row) => day(row[x])), ...axis(c) },
    yAxis: { type: "value", min: 0, ...axis(c), axisLine: { show: false } },
    series: series.map(([name, key], index) => ({
      name, type: "line", data: rows.map((row) => row[key]), symbol: "circle", symbolSize: 6, showSymbol: rows.length === 1,
      lineStyle: { width: 2.5, type: ["solid", "dashed", "dotted"][index] },
      areaStyle: index === 0 && series.length === 3 && key === "daily" ? { opacity: 0.1 } : undefined,
    })),
  }), () => table(label, columns, [...rows].reverse()), series.map(([name]) => name));
}

export function activeUsers(box, rows) {
  const series = [["That day", "daily"], ["7 days", "weekly"], ["30 days", "monthly"]];
  lines(box, "Active users", rows, "day", series, [["Day", (r) => r.day], ...series.map(([n, k]) => [n, (r) => number(r[k]), "number"])]);
}

export function latency(box, rows) {
  const series = [["Half are faster", "p50"], ["95 of 100 are faster", "p95"], ["99 of 100 are faster", "p99"]];
  lines(box, "Waiting times in milliseconds", rows, "time", series, [["Day", (r) => r.time.slice(0, 10)], ...series.map(([n, k]) => [n, (r) => number(r[k]), "number"])]);
}

function bars(box, label, rows, name, value, note, columns) {
  const shown = [...rows].reverse();
  draw(box, `${label}: ${rows.map((r) => `${name(r)} ${number(value(r))}`).join(", ")}.`, (c) => ({
    grid: { left: 4, right: 84, top: 4, bottom: 4, containLabel: true },
    tooltip: { trigger: "item", renderMode: "richText", backgroundColor: c.card, borderColor: c.line, textStyle: { color: c.text }, confine: true, formatter: (p) => `${p.name}: ${number(p.value)}` },
    xAxis: { type: "value", show: false },
    yAxis: { type: "category", data: shown.map(name), ...axis(c), axisLine: { show: false }, axisLabel: { color: c.text } },
    series: [{
      type: "bar", barWidth: "62%", itemStyle: { borderRadius: [0, 4, 4, 0] },
      data: shown.map((row) => ({ name: name(row), value: value(row), label: { formatter: note(row) } })),
      label: { show: true, position: "right", color: c.muted },
    }],
  }), () => table(label, columns, rows));
}

export function topFeatures(box, rows) {
  bars(box, "Top features", rows, (r) => words(r.feature), (r) => Number(r.events), (r) => `${number(r.events)}  ${r.share}%`,
    [["Feature", (r) => words(r.feature)], ["Events", (r) => number(r.events), "number"], ["People", (r) => number(r.users), "number"], ["Failed", (r) => number(r.errors), "number"]]);
}

export function funnel(box, rows) {
  bars(box, "Sessions that reach each step", rows, (r) => words(r.action), (r) => Number(r.sessions), (r) => `${number(r.sessions)}  ${r.percent_of_first}%`,
    [["Step", (r) => words(r.action)], ["Sessions", (r) => number(r.sessions), "number"], ["Of the first", (r) => `${r.percent_of_first}%`, "number"]]);
}

export function retention(box, rows) {
  const cohorts = [...new Set(rows.map((r) => r.cohort))];
  const weeks = [...new Set(rows.map((r) => r.week))].sort((a, b) => a - b);
  const sizes = new Map(rows.map((r) => [r.cohort, r.cohort_size]));
  draw(box, `Retention by week for ${cohorts.length} groups of newcomers; the table has the numbers.`, (c) => ({
    grid: { left: 4, right: 8, top: 24, bottom: 4, containLabel: true },
    tooltip: { renderMode: "richText", backgroundColor: c.card, borderColor: c.line, textStyle: { color: c.text }, confine: true,
      formatter: (p) => `Came first in the week of ${day(cohorts[p.value[1]])}\n${p.value[2]}% were there ${p.value[0]} weeks later` },
    xAxis: { type: "category", position: "top", data: weeks.map((w) => (w ? `+${w} wk` : "First")), ...axis(c), axisLine: { show: false } },
    yAxis: { type: "category", inverse: true, data: cohorts.map((d) => `${day(d)} (${sizes.get(d)})`), ...axis(c), axisLine: { show: false } },
    visualMap: { show: false, min: 0, max: 100, inRange: { color: [c.low, c.accent] }, dimension: 2 },
    series: [{
      type: "heatmap",
      data: rows.map((r) => ({
        value: [weeks.indexOf(r.week), cohorts.indexOf(r.cohort), r.percent],
        label: { color: r.percent > 45 ? c.onAccent : c.text },
      })),
      itemStyle: { borderColor: c.card, borderWidth: 2, borderRadius: 3 },
      label: { show: box.clientWidth > 460, formatter: (p) => `${Math.round(p.value[2])}%` },
    }],
  }), () => table("Retention by week", [["First week", (r) => r.cohort], ["Weeks later", (r) => r.week, "number"], ["People", (r) => number(r.users), "number"], ["Share", (r) => `${r.percent}%`, "number"]], rows));
}

export function forget() {
  for (const { instance } of charts.values()) instance.dispose();
  for (const box of charts.keys()) box.replaceChildren();
  charts.clear();
}
