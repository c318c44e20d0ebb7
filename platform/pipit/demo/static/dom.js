// Builds elements; text is always text, never markup.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

export function table(caption, columns, rows) {
  return element("table", {},
    element("caption", { class: "hidden" }, caption),
    element("thead", {}, element("tr", {}, ...columns.map(([title, , kind]) => element("th", { scope: "col", class: kind }, title)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...columns.map(([title, value, kind]) => element("td", { class: kind, "data-label": title }, String(value(row))))))));
}

export const number = (value, digits = 0) => Number(value).toLocaleString("en", { maximumFractionDigits: digits });
export const words = (name) => name.replaceAll("_", " ").replace(/^./, (c) => c.toUpperCase());
