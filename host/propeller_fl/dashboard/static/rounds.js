// The list of rounds, and the story of the one that is chosen.

import { $, bytes, clock, el, keepRows, left, measure, number, tag } from "/static/dom.js";
import { nowS, post, state as page } from "/static/app.js";
import { ask } from "/static/ask.js";

const KINDS = { open: "busy", aggregating: "busy", complete: "good", timeout: "warn", failed: "bad", refused: "bad" };
const SEATS = { accepted: "good", refused: "bad", failed: "bad", launched: "busy", absent: "warn" };
const EVENTS = {
  accepted: "good", complete: "good", timeout: "warn", refused: "bad", failed: "bad", "not launched": "bad",
  opened: "busy", launched: "busy", aggregating: "busy", absent: "warn", "another start refused": "warn",
};
const MAX_ROWS = 200;

let chosen = "";
let followNewest = true;
let story = null;
let asking = false;
let again = false;

const byAge = (state) => [...state.rounds.values()].sort((a, b) => b.opened_at_s - a.opened_at_s || (a.id < b.id ? 1 : -1));

export function drawRounds(state) {
  const rounds = byAge(state).slice(0, MAX_ROWS);
  $("no-rounds").hidden = rounds.length > 0;
  $("round-table").hidden = rounds.length === 0;
  keepRows($("round-table").tBodies[0], rounds, (round) => round.id, (round) => JSON.stringify([round, round.id === chosen]), rowOf);
  if (followNewest && rounds.length && rounds[0].id !== chosen) choose(rounds[0].id, state, false);
  else if (chosen && !state.rounds.has(chosen)) choose("", state, false);
  drawTimes(state);
}

function rowOf(round) {
  const refused = Object.values(round.refused).reduce((sum, count) => sum + count, 0);
  const name = round.outcome || round.phase;
  return el(
    "tr", { class: round.id === chosen ? "chosen" : false },
    el("th", { scope: "row" }, el("button", {
      type: "button", "aria-pressed": String(round.id === chosen), onclick: () => choose(round.id, null, true),
    }, round.id)),
    el("td", {}, tag(name, KINDS[name]), refused > 0 ? [" ", tag(`${refused} refused`, "warn")] : null),
    el("td", { class: "n" }, `${round.accepted} / ${round.k_of_n}`),
    el("td", { class: "nowrap", "data-left": round.id }),
  );
}

/** What changes with the clock alone. */
export function drawTimes(state) {
  for (const cell of document.querySelectorAll("[data-left]")) {
    const round = state.rounds.get(cell.dataset.left);
    const text = round && !round.closed && round.deadline_at_s ? left(round.deadline_at_s - nowS()) : "";
    if (cell.textContent !== text) cell.textContent = text;
  }
}

export function choose(id, state, byHand) {
  if (byHand) followNewest = false;
  chosen = id;
  story = null;
  for (const row of $("round-table").tBodies[0].rows) {
    row.className = row.dataset.key === id ? "chosen" : "";
    row.querySelector("button")?.setAttribute("aria-pressed", String(row.dataset.key === id));
  }
  if (!id) drawStory();
  else refreshStory(state, [id]);
}

/** The round that was just started from here is the one to look at. */
export function follow(id) {
  followNewest = true;
  choose(id, null, false);
}

export async function refreshStory(state, ids = [chosen]) {
  if (!chosen || !ids.includes(chosen)) return;
  if (asking) { again = true; return; }
  asking = true;
  const wanted = chosen;
  try {
    const answer = await fetch(`/api/rounds/${encodeURIComponent(wanted)}`);
    if (answer.ok) {
      const found = await answer.json();
      if (wanted === chosen) { story = found; drawStory(); }
    }
  } catch { /* the stream says when there is no answer */ } finally {
    asking = false;
    if (again || wanted !== chosen) { again = false; setTimeout(() => refreshStory(state), 200); }
  }
}

function drawStory() {
  drawStop(story);
  if (!story) {
    $("story-body").replaceChildren(el("h3", { id: "story-title" }, chosen || "No round chosen"));
    return;
  }
  const round = story;
  const scrolled = $("story").querySelector(".timeline");
  const atEnd = !scrolled || scrolled.scrollTop + scrolled.clientHeight >= scrolled.scrollHeight - 8;
  const name = round.outcome || round.phase;
  const parts = [
    el("div", { class: "head" },
      el("h3", { id: "story-title" }, `${round.id} `, tag(name, KINDS[name])),
      el("span", { "data-left": round.id })),
    el("progress", { max: round.k_of_n || 1, value: round.accepted, "aria-label": `${round.accepted} of ${round.k_of_n} updates` }),
    el("p", { class: "facts" }, factsOf(round).map(([word, value]) => el("span", {}, `${word} `, el("b", {}, value)))),
  ];
  if (round.detail || round.launch_error) parts.push(el("p", { class: "error" }, round.detail || round.launch_error));
  parts.push(el("h4", {}, "Participants"), seatsOf(round));
  const line = timelineOf(round);
  parts.push(el("h4", {}, "What happened"), line);
  $("story-body").replaceChildren(...parts);
  drawTimes(page);
  if (atEnd) line.scrollTop = line.scrollHeight;
}

/** The button stays where it is while the story beside it is drawn anew: a click is not lost. */
function drawStop(round) {
  const button = $("stop-round");
  const hidden = !round || round.closed || !page.me.may_start;
  if (hidden && document.activeElement === button) $("story").focus({ preventScroll: true });
  button.hidden = hidden;
  button.setAttribute("aria-label", hidden ? "Stop" : `Stop round ${round.id}`);
}

export function setUpRounds() {
  $("stop-round").addEventListener("click", () => {
    const { id } = story;
    ask({
      title: `Stop round ${id}?`,
      text: "It ends now and for good. No model is made of it, however many updates are in, and its proplets stop.",
      go: "Stop the round",
      wantsReason: true,
      act: async (reason) => {
        await post(`/api/rounds/${encodeURIComponent(id)}/stop`, { round_id: id, reason });
        await refreshStory(page, [id]);
      },
    });
  });
}

function factsOf(round) {
  const start = round.start;
  const facts = [["updates", `${round.accepted} of ${round.k_of_n}`], ["participants", number(round.participants)]];
  if (start) {
    facts.push(["module", start.image], ["from", start.model_uri.replace("fl/models/global_model_", "")], ["strategy", start.strategy]);
    const params = Object.entries({ ...start.hyperparams, ...start.strategy_args });
    if (params.length) facts.push(["with", params.map(([key, value]) => `${key} ${value}`).join(", ")]);
  }
  if (round.model_version !== null && round.outcome !== "failed") facts.push(["model", `v${round.model_version}`]);
  if (round.samples) facts.push(["samples", number(round.samples)]);
  if (round.update_bytes) facts.push(["received", bytes(round.update_bytes)]);
  for (const [key, value] of Object.entries(round.metrics)) facts.push([key, measure(value)]);
  for (const [reason, count] of Object.entries(round.refused)) facts.push([`refused, ${reason}`, number(count)]);
  return facts;
}

function seatsOf(round) {
  const words = { accepted: "in", refused: "refused", failed: "failed", launched: "working", absent: "absent", waiting: "waiting" };
  const items = round.seats.slice(0, 300).map((seat) => {
    const why = [seat.reason, seat.detail].filter(Boolean).join(": ");
    const text = `${seat.id} ${words[seat.state]}`;
    return el("li", {}, el("span", { class: "tag", "data-kind": SEATS[seat.state] ?? "", title: why || false },
      text, why && seat.state !== "accepted" ? `: ${why}` : ""));
  });
  const more = round.seats.length - items.length + round.more_participants;
  if (more > 0) items.push(el("li", {}, tag(`and ${number(more)} more`)));
  return el("ul", { class: "seats" }, items);
}

function timelineOf(round) {
  const lines = [...round.story].sort((a, b) => a.at_s - b.at_s);
  const begin = (lines.find((line) => line.event === "opened") ?? lines[0])?.at_s ?? 0;
  return el("ol", { class: "timeline", tabindex: "0", "aria-label": "What happened, in order" }, lines.map((line) => {
    const after = line.at_s - begin;
    const when = el("time", { datetime: new Date(line.at_s * 1000).toISOString(), title: clock(line.at_s) },
      `${after < 0 ? "−" : "+"}${Math.abs(after).toFixed(Math.abs(after) < 100 ? 2 : 0)} s`);
    return el("li", { "data-kind": EVENTS[line.event] ?? "" }, when,
      el("div", {}, line.proplet_id ? `${line.proplet_id} ` : "", line.event, line.detail && el("span", { class: "detail" }, ` ${line.detail}`)));
  }));
}

