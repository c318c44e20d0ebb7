// Colours an SQL text: keywords, texts, numbers, bound values, comments. Text stays text, never markup.
import { element } from "./dom.js";

const WORDS = new Set(("select from where and or not in as with on using join left right inner full cross any all asof array group by " +
  "order having limit offset union except intersect distinct case when then else end is null like ilike between over partition rows " +
  "range unbounded preceding following current row desc asc interval prewhere final settings qualify window filter within").split(" "));
const UNITS = new Set("SECOND MINUTE HOUR DAY WEEK MONTH QUARTER YEAR".split(" ")); // in small letters they are columns
const TOKEN = /(?<comment>--[^\n]*|\/\*[\s\S]*?\*\/)|(?<text>'(?:[^'\\]|\\.|'')*')|(?<value>\{\w+:[^}]*\})|(?<number>\b\d+(?:\.\d+)?\b)|(?<call>\b[A-Za-z_]\w*(?=\())|(?<word>\b[A-Za-z_]\w*)/g;

export function coloured(sql) {
  const parts = [];
  let end = 0;
  for (const found of sql.matchAll(TOKEN)) {
    let [kind] = Object.entries(found.groups).find(([, text]) => text !== undefined);
    if ((kind === "word" || kind === "call") && (WORDS.has(found[0].toLowerCase()) || UNITS.has(found[0]))) kind = "keyword";
    if (kind === "word") continue;
    parts.push(sql.slice(end, found.index), element("span", { class: `sql-${kind}` }, found[0]));
    end = found.index + found[0].length;
  }
  return [...parts, sql.slice(end)].filter((part) => part !== "");
}
