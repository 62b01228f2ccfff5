// The fleet as a table that can be sorted and searched.

import { $, ago, bytes, el, keepRows, number, tag } from "/static/dom.js";
import { nowS } from "/static/app.js";

const MAX_ROWS = 300;
const COLUMNS = [
  { name: "Proplet", by: (one) => one.id },
  { name: "State", by: (one) => (one.alive ? 0 : 1) },
  { name: "Runtime", by: (one) => one.runtime },
  { name: "Arch", by: (one) => one.arch, minor: true },
  { name: "Memory", by: (one) => one.memory_bytes ?? -1, right: true, minor: true },
  { name: "Version", by: (one) => one.version, minor: true },
  { name: "Last seen", by: (one) => -(one.heard_at_s ?? 0) },
  { name: "Tasks", by: (one) => -one.tasks.length },
];

let sorted = 0;
let down = false;

export function setUpFleet(state) {
  const row = $("fleet-table").tHead.rows[0];
  row.replaceChildren(...COLUMNS.map((column, at) => el(
    "th", { scope: "col", class: [column.right ? "n" : "", column.minor ? "minor" : ""].join(" ").trim() || false },
    el("button", { type: "button", onclick: () => { down = sorted === at && !down; sorted = at; drawFleet(state); } }, column.name))));
  $("fleet-filter").addEventListener("input", () => drawFleet(state));
}

export function drawFleet(state) {
  const wanted = $("fleet-filter").value.trim().toLowerCase();
  const says = (one) => [one.id, one.namespace, one.runtime, one.arch, one.version, one.os].join(" ").toLowerCase();
  const found = [...state.proplets.values()].filter((one) => !wanted || says(one).includes(wanted));
  const { by } = COLUMNS[sorted];
  const order = new Intl.Collator("en", { numeric: true });
  const compare = (a, b) => (typeof a === "string" ? order.compare(a, b) : a - b);
  found.sort((a, b) => (down ? -1 : 1) * compare(by(a), by(b)) || order.compare(a.id, b.id));
  [...$("fleet-table").tHead.rows[0].cells].forEach((cell, at) => {
    if (at === sorted) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  });
  const shown = found.slice(0, MAX_ROWS);
  const stamp = ({ heard_at_s, ...rest }) => JSON.stringify(rest);
  keepRows($("fleet-table").tBodies[0], shown, (one) => one.id, stamp, rowOf);
  $("fleet-table").hidden = state.proplets.size === 0;
  const more = found.length - shown.length;
  $("fleet-note").textContent = state.proplets.size === 0
    ? "No proplet has been heard yet: each says within its heartbeat that it is there."
    : more > 0 ? `and ${number(more)} more: find them by name` : found.length ? "" : "Nobody is like that.";
}

function rowOf(one) {
  const tasks = [];
  if (one.tasks.length) tasks.push(tag(`at work: ${one.tasks.length}`, "busy"), " ");
  if (one.done) tasks.push(`${number(one.done)} done `);
  if (one.failed) tasks.push(el("span", { class: "tag", "data-kind": "bad", title: one.last_error }, `${number(one.failed)} failed`));
  const state = one.alive ? tag("alive", "good") : one.offline ? tag("offline") : tag("silent", "warn");
  return el("tr", {},
    el("th", { scope: "row" }, one.id),
    el("td", {}, state),
    el("td", {}, one.runtime),
    el("td", { class: "minor" }, one.arch),
    el("td", { class: "n nowrap minor" }, bytes(one.memory_bytes)),
    el("td", { class: "minor" }, one.version),
    el("td", { class: "nowrap", "data-heard": one.id }, one.heard_at_s ? ago(nowS() - one.heard_at_s) : "never"),
    el("td", {}, tasks, one.last_error ? el("span", { class: "unseen" }, ` last error: ${one.last_error}`) : null));
}
