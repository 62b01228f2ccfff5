// The page: one state, filled by the stream, drawn by the panels.

import { $, ago, el, measure, number } from "/static/dom.js";
import { drawCurves } from "/static/curves.js";
import { drawExperiments } from "/static/experiments.js";
import { drawFleet, setUpFleet } from "/static/fleet.js";
import { drawModels } from "/static/models.js";
import { drawRounds, drawTimes, refreshStory, setUpRounds } from "/static/rounds.js";
import { setUpStart } from "/static/start.js";
import { setUpAsk } from "/static/ask.js";
import { setUpExperiment } from "/static/experiment.js";

export const state = {
  proplets: new Map(),
  rounds: new Map(),
  models: new Map(),
  points: new Map(),
  experiments: new Map(),
  me: { may_start: false, choices: {} },
  offsetS: 0, // what our clock is behind the service's
  broker: true,
};

export const nowS = () => Date.now() / 1000 + state.offsetS;

// A panel says what it draws from. Another one is a line here and a section in index.html.
const PANELS = [
  { of: ["proplets", "rounds", "models", "points"], draw: drawStrip },
  { of: ["rounds"], draw: drawRounds },
  { of: ["experiments"], draw: drawExperiments },
  { of: ["points"], draw: drawCurves },
  { of: ["proplets"], draw: drawFleet },
  { of: ["models"], draw: drawModels },
];

let source = null;
let due = new Set();
let drawing = false;

function changed(...kinds) {
  kinds.forEach((kind) => due.add(kind));
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    const kinds = due;
    due = new Set();
    for (const panel of PANELS) if (panel.of.some((kind) => kinds.has(kind))) panel.draw(state);
  });
}

const pointKey = (point) => `${point.version} ${point.round_id}`;

function takeSnapshot(message) {
  state.proplets = new Map(message.proplets.map((one) => [one.id, one]));
  state.rounds = new Map(message.rounds.map((one) => [one.id, one]));
  state.models = new Map(message.models.map((one) => [one.version, one]));
  state.points = new Map(message.points.map((one) => [pointKey(one), one]));
  state.experiments = new Map(message.experiments.map((one) => [one.id, one]));
  takeTime(message);
  changed("proplets", "rounds", "models", "points", "experiments");
  refreshStory(state);
}

function takeChanges(message) {
  takeTime(message);
  for (const one of message.proplets ?? []) state.proplets.set(one.id, one);
  for (const [id, at] of Object.entries(message.heard ?? {})) {
    const proplet = state.proplets.get(id);
    if (proplet) proplet.heard_at_s = at;
  }
  for (const id of message.proplets_gone ?? []) state.proplets.delete(id);
  for (const one of message.rounds ?? []) {
    announce(state.rounds.get(one.id), one);
    state.rounds.set(one.id, one);
  }
  for (const id of message.rounds_gone ?? []) state.rounds.delete(id);
  for (const one of message.models ?? []) state.models.set(one.version, one);
  for (const version of message.models_gone ?? []) state.models.delete(version);
  for (const one of message.points ?? []) state.points.set(pointKey(one), one);
  for (const one of message.experiments ?? []) {
    state.experiments.delete(one.id); // the one heard of last is last
    state.experiments.set(one.id, one);
  }
  for (const id of message.experiments_gone ?? []) state.experiments.delete(id);
  const kinds = ["proplets", "rounds", "models", "points", "experiments"];
  changed(...kinds.filter((kind) => message[kind] || message[`${kind}_gone`]));
  if (message.rounds) refreshStory(state, message.rounds.map((one) => one.id));
}

/** To those who listen rather than look: that a round began or ended. */
function announce(before, round) {
  if (before && before.phase === round.phase) return;
  const ends = { complete: "is complete", failed: "has failed", open: "is open", refused: "is refused" };
  if (ends[round.phase]) $("news").textContent = `Round ${round.id} ${ends[round.phase]}.`;
}

function takeTime(message) {
  state.offsetS = message.now_s - Date.now() / 1000;
  if ("broker" in message) state.broker = message.broker;
  showConnection(state.broker ? "live" : "down");
}

function showConnection(how) {
  const words = { live: "live", wait: "connecting", down: "no broker", lost: "no answer, trying again" };
  $("connection").dataset.state = how === "lost" ? "down" : how;
  if ($("connection").textContent !== words[how]) $("connection").textContent = words[how];
}

function drawStrip() {
  const proplets = [...state.proplets.values()];
  const rounds = [...state.rounds.values()];
  const newest = Math.max(...state.models.keys());
  const points = [...state.points.values()].sort((a, b) => a.version - b.version);
  const last = (name) => points.findLast((point) => name in point.metrics)?.metrics[name];
  const card = (title, value, note = "") => el("div", {}, el("dt", {}, title), el("dd", {}, value, note && el("small", {}, ` ${note}`)));
  const cards = [
    card("Proplets alive", number(proplets.filter((one) => one.alive).length), `of ${number(proplets.length)}`),
    card("Rounds open", number(rounds.filter((one) => !one.closed).length), `of ${number(rounds.length)}`),
    card("Newest model", Number.isFinite(newest) ? `v${newest}` : "none"),
  ];
  for (const name of ["loss", "accuracy"]) {
    const value = last(name);
    if (value !== undefined) cards.push(card(`Last ${name}`, measure(value)));
  }
  $("strip").replaceChildren(...cards);
}

function listen() {
  source?.close();
  source = new EventSource("/api/stream");
  source.addEventListener("snapshot", (event) => takeSnapshot(JSON.parse(event.data)));
  source.addEventListener("changes", (event) => takeChanges(JSON.parse(event.data)));
  source.addEventListener("alive", (event) => takeTime(JSON.parse(event.data)));
  source.onerror = () => {
    showConnection("lost");
    if (source.readyState === EventSource.CLOSED) setTimeout(enter, 2000); // refused: who are we now?
  };
}

async function enter() {
  let me;
  try {
    me = await (await fetch("/api/me")).json();
  } catch {
    setTimeout(enter, 2000);
    return;
  }
  state.me = me;
  $("login").hidden = me.known;
  $("board").hidden = !me.known;
  $("new-round").hidden = !me.may_start;
  drawExperiments(state); // whose buttons are for who may
  $("who").hidden = !me.name;
  if (me.name) {
    const out = el("button", { type: "button", class: "quiet", onclick: leave }, "Log out");
    $("who").replaceChildren(`${me.name} `, out);
  }
  if (me.known) listen();
  else {
    showConnection("wait");
    $("token").focus();
  }
}

async function leave() {
  source?.close();
  await post("/api/logout", {});
  await enter();
}

/** The answer to a POST; an Error with what was wrong and what to try. */
export async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const document_ = await answer.json();
  if (!answer.ok) throw new Error([document_.error, document_.try].filter(Boolean).join(" — "));
  return document_;
}

function setUpTheme() {
  const names = { "": "Auto", light: "Light", dark: "Dark" };
  const spoken = { "": "as the system", light: "light", dark: "dark" };
  const show = () => {
    const now = document.documentElement.dataset.theme ?? "";
    $("theme").textContent = names[now];
    $("theme").setAttribute("aria-label", `Colours: ${spoken[now]}`);
  };
  $("theme").addEventListener("click", () => {
    const order = ["", "light", "dark"];
    const now = document.documentElement.dataset.theme ?? "";
    const next = order[(order.indexOf(now) + 1) % order.length];
    if (next) document.documentElement.dataset.theme = next;
    else delete document.documentElement.dataset.theme;
    try { localStorage.setItem("theme", next); } catch { /* for this visit alone, then */ }
    show();
  });
  show();
}

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("login-error").textContent = "";
  try {
    await post("/api/login", { token: $("token").value });
    $("token").value = "";
    await enter();
  } catch (error) {
    $("login-error").textContent = error.message;
  }
});

function drawAges() {
  for (const cell of document.querySelectorAll("[data-heard]")) {
    const proplet = state.proplets.get(cell.dataset.heard);
    const text = proplet?.heard_at_s ? ago(nowS() - proplet.heard_at_s) : "never";
    if (cell.textContent !== text) cell.textContent = text;
  }
  drawTimes(state);
}

setUpTheme();
setUpFleet(state);
setUpStart(state);
setUpRounds();
setUpExperiment(state);
setUpAsk();
setInterval(drawAges, 1000);
enter();
