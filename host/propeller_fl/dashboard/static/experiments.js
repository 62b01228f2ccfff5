// Experiments: how far each is, and why one has ended or waits.

import { $, el, keepRows, measure, number, tag } from "/static/dom.js";

const KINDS = { running: "busy", stopping: "busy", paused: "warn", stopped: "warn", complete: "good", failed: "bad", refused: "bad" };

export function drawExperiments(state) {
  const all = [...state.experiments.values()];
  const last = all.filter((one) => one.ended).reverse();
  const list = [...all.filter((one) => !one.ended).reverse(), ...last];
  $("experiments").hidden = list.length === 0;
  $("experiments-link").hidden = list.length === 0;
  keepRows($("experiment-table").tBodies[0], list, (one) => one.id, JSON.stringify, rowOf);
}

const told = (metrics) => Object.entries(metrics).map(([name, value]) => `${name} ${measure(value)}`).join("  ");

function rowOf(one) {
  const bar = el("progress", { max: Math.max(one.of_rounds, 1), value: one.rounds, "aria-label": `rounds of ${one.id}` });
  return el("tr", {},
    el("th", { scope: "row" }, one.id),
    el("td", {}, tag(one.phase, KINDS[one.phase])),
    el("td", { class: "nowrap" }, bar, ` ${number(one.rounds)} / ${number(one.of_rounds)}`),
    el("td", {}, told(one.metrics)),
    el("td", {}, told(one.evaluation)),
    el("td", { class: "minor" }, one.round_id ? `round ${one.round_id}` : one.why));
}
