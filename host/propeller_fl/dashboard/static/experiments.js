// Experiments: how far each is, why one has ended or waits, and what may be done about it.

import { $, el, keepRows, measure, number, tag } from "/static/dom.js";
import { post } from "/static/app.js";
import { ask } from "/static/ask.js";

const KINDS = { running: "busy", stopping: "busy", paused: "warn", stopped: "warn", complete: "good", failed: "bad", refused: "bad" };

export function drawExperiments(state) {
  const all = [...state.experiments.values()];
  const last = all.filter((one) => one.ended).reverse();
  const list = [...all.filter((one) => !one.ended).reverse(), ...last];
  const may = state.me.may_start;
  const shown = list.length > 0 || may;
  $("experiments").hidden = !shown;
  $("experiments-link").hidden = !shown;
  $("new-experiment").hidden = !may;
  $("experiment-table").hidden = list.length === 0;
  $("no-experiments").hidden = list.length > 0;
  $("experiment-acts").hidden = !may;
  const stamp = (one) => JSON.stringify([one, may]);
  keepRows($("experiment-table").tBodies[0], list, (one) => one.id, stamp, (one, before) => rowOf(one, may, before));
}

const told = (metrics) => Object.entries(metrics).map(([name, value]) => `${name} ${measure(value)}`).join("  ");

/** Its buttons stay where they are as long as they are the same: no click and no focus is lost. */
function rowOf(one, may, before) {
  const bar = el("progress", { max: Math.max(one.of_rounds, 1), value: one.rounds, "aria-label": `rounds of ${one.id}` });
  const cells = [
    el("th", { scope: "row" }, one.id),
    el("td", {}, tag(one.phase, KINDS[one.phase])),
    el("td", { class: "nowrap" }, bar, ` ${number(one.rounds)} / ${number(one.of_rounds)}`),
    el("td", {}, told(one.metrics)),
    el("td", {}, told(one.evaluation)),
    el("td", { class: "minor" }, one.round_id ? `round ${one.round_id}` : one.why),
  ];
  const acts = `${may} ${one.phase}`;
  if (before?.dataset.acts === acts) {
    cells.forEach((cell, at) => before.children[at].replaceWith(cell));
    return before;
  }
  return el("tr", { "data-acts": acts }, cells, may && el("td", {}, actsOf(one)));
}

function actsOf(one) {
  const button = (word, kind, onclick) => el("button", {
    type: "button", class: kind, "aria-label": `${word} ${one.id}`, onclick,
  }, word);
  const acts = el("div", { class: "acts" });
  if (one.phase === "running") acts.append(button("Pause", "quiet", (event) => tell(event, one.id, "pause")));
  if (one.phase === "paused") acts.append(button("Resume", "quiet", (event) => tell(event, one.id, "resume")));
  if (one.phase === "running" || one.phase === "paused") {
    acts.append(button("Stop", "danger", () => ask({
      title: `Stop experiment ${one.id}?`,
      text: "It ends for good. A round that is under way still counts; stop that as well if it should not.",
      go: "Stop the experiment",
      act: () => command(one.id, "stop"),
    })));
  }
  return acts;
}

const command = (id, word) => post(
  `/api/experiments/${encodeURIComponent(id)}/command`, { experiment_id: id, command: word });

async function tell(event, id, word) {
  const button = event.currentTarget;
  $("experiments-error").textContent = "";
  button.disabled = true;
  try {
    await command(id, word);
  } catch (error) {
    $("experiments-error").textContent = error.message;
  } finally {
    button.disabled = false;
  }
}
