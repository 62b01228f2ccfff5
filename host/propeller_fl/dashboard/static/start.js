// The form that starts a round.

import { $, el } from "/static/dom.js";
import { post } from "/static/app.js";
import { follow } from "/static/rounds.js";

const MAX_SHOWN = 500;

export function setUpStart(state) {
  const form = $("start-form");
  const fields = form.elements;
  const boxes = () => [...$("choices").querySelectorAll("input")];

  const count = () => {
    const chosen = boxes().filter((box) => box.checked).length;
    $("chosen").textContent = `${chosen} chosen`;
    fields.k_of_n.max = Math.max(1, chosen);
    fields.k_of_n.value = chosen || 1;
  };
  const choose = (wanted) => {
    boxes().forEach((box) => { box.checked = wanted(state.proplets.get(box.value)); });
    count();
  };

  $("new-round").addEventListener("click", () => {
    const stamp = new Date().toISOString().replace(/[-:]/g, "").replace("T", "-").slice(0, 15);
    fields.round_id.value = `r-${stamp}`;
    const versions = [...state.models.keys()].sort((a, b) => b - a).slice(0, MAX_SHOWN);
    fields.model_uri.replaceChildren(...versions.map((version, at) => el(
      "option", { value: `fl/models/global_model_v${version}` }, at ? `v${version}` : `v${version}, the newest`)));
    fill(fields.strategy, Object.keys(state.me.choices.strategies ?? {}), "fedavg");
    fill(fields.update_format, state.me.choices.update_formats ?? [], "json");
    const images = state.me.choices.images ?? [];
    $("images").replaceChildren(...images.map((image) => el("option", { value: image })));
    fields.task_wasm_image.value ||= images[0] ?? "";
    const order = new Intl.Collator("en", { numeric: true });
    const proplets = [...state.proplets.values()].sort((a, b) => b.alive - a.alive || order.compare(a.id, b.id)).slice(0, MAX_SHOWN);
    $("choices").replaceChildren(...proplets.map((one) => el("label", {},
      el("input", { type: "checkbox", value: one.id }), one.alive ? one.id : `${one.id} (not alive)`)));
    choose((one) => one?.alive ?? false);
    $("start-error").textContent = "";
    $("start").showModal();
  });

  $("choices").addEventListener("change", count);
  $("all-alive").addEventListener("click", () => choose((one) => one?.alive ?? false));
  $("nobody").addEventListener("click", () => choose(() => false));
  $("start-cancel").addEventListener("click", () => $("start").close());
  fields.strategy.addEventListener("change", () => {
    const known = state.me.choices.strategies?.[fields.strategy.value] ?? {};
    fields.strategy_args.value = Object.entries(known).map(([name, value]) => `${name} = ${value}`).join("\n");
    fields.strategy_args.rows = Math.max(1, Object.keys(known).length);
  });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    $("start-error").textContent = "";
    $("start-go").disabled = true;
    try {
      const answer = await post("/api/rounds", messageOf(fields, boxes()));
      $("start").close();
      follow(answer.round_id);
    } catch (error) {
      $("start-error").textContent = error.message;
    } finally {
      $("start-go").disabled = false;
    }
  });
}

function messageOf(fields, boxes) {
  const participants = boxes.filter((box) => box.checked).map((box) => box.value);
  if (!participants.length) throw new Error("nobody is chosen to take part");
  return {
    round_id: fields.round_id.value,
    model_uri: fields.model_uri.value,
    task_wasm_image: fields.task_wasm_image.value,
    participants,
    hyperparams: pairsOf(fields.hyperparams.value),
    k_of_n: Number(fields.k_of_n.value),
    min_updates: Number(fields.min_updates.value),
    timeout_s: Number(fields.timeout_s.value),
    strategy: fields.strategy.value,
    strategy_args: pairsOf(fields.strategy_args.value),
    update_format: fields.update_format.value,
    mode: fields.mode.value,
  };
}

/** Lines of `name = value`; a value that is a number or a boolean is one. */
function pairsOf(text) {
  const pairs = {};
  for (const line of text.split("\n").map((one) => one.trim()).filter(Boolean)) {
    const at = line.indexOf("=");
    if (at < 1) throw new Error(`${line}: name = value is wanted`);
    const value = line.slice(at + 1).trim();
    const plain = value === "true" ? true : value === "false" ? false : value !== "" && Number.isFinite(Number(value)) ? Number(value) : value;
    pairs[line.slice(0, at).trim()] = plain;
  }
  return pairs;
}

function fill(select, names, first) {
  const now = select.value || first;
  select.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
  if (names.includes(now)) select.value = now;
}
