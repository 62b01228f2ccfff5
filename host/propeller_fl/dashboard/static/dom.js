// Elements and words. Whatever comes from the wire becomes text, never markup.

export const $ = (id) => document.getElementById(id);

/** An element; properties as attributes, `on…` as listeners, children as nodes or text. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  set(node, attributes);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== "" && child !== false));
  return node;
}

/** The same in SVG. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(node, attributes);
  node.append(...children);
  return node;
}

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
}

/** Rows of a table by key: those that are as before stay, and with them focus and selection. `make`
    is given the row of before, which it may bring up to date and return. */
export function keepRows(body, items, keyOf, stampOf, make) {
  const old = new Map([...body.children].map((row) => [row.dataset.key, row]));
  const focused = document.activeElement?.closest?.("tr");
  const rows = items.map((item) => {
    const key = String(keyOf(item));
    const stamp = stampOf(item);
    const before = old.get(key);
    if (before && before.dataset.stamp === stamp) return before;
    const row = make(item, before);
    row.dataset.key = key;
    row.dataset.stamp = stamp;
    if (before && row !== before && before === focused) row.dataset.refocus = "1";
    return row;
  });
  const same = rows.length === body.children.length && rows.every((row, i) => body.children[i] === row);
  if (!same) body.replaceChildren(...rows);
  const again = body.querySelector("[data-refocus]");
  if (again) {
    delete again.dataset.refocus;
    again.querySelector("button, a, input")?.focus({ preventScroll: true });
  }
}

export const tag = (text, kind = "") => el("span", { class: "tag", "data-kind": kind }, text);

export function bytes(count) {
  if (count === null || count === undefined) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  let value = count;
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
  return `${at === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
}

export const number = (value) => new Intl.NumberFormat("en").format(value);

export function measure(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size < 0.001 || size >= 100000 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

export function ago(seconds) {
  if (seconds < 1.5) return "now";
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
}

export function left(seconds) {
  if (seconds <= 0) return "overdue";
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  if (seconds < 5400) return `${Math.ceil(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export const clock = (atS) => new Date(atS * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
