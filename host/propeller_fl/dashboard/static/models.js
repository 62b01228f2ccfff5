// Model versions, and links that download them.

import { $, bytes, el, keepRows, number } from "/static/dom.js";

const FORMS = ["json", "cbor", "safetensors", "npz"];
const MAX_ROWS = 200;

export function drawModels(state) {
  const models = [...state.models.values()].sort((a, b) => b.version - a.version).slice(0, MAX_ROWS);
  $("no-models").hidden = models.length > 0;
  $("model-table").hidden = models.length === 0;
  keepRows($("model-table").tBodies[0], models, (model) => model.version, (model) => model.sha256, rowOf);
}

function rowOf(model) {
  const link = (form) => el("a", { href: `/models/${model.version}?format=${form}`, download: true,
    "aria-label": `version ${model.version} as ${form}` }, form);
  const links = model.in_parts
    ? [el("a", { href: `/models/${model.version}`, download: true }, "manifest"),
      el("code", {}, `propeller-fl model get ${model.version} -o model.safetensors`)]
    : FORMS.map(link);
  return el("tr", {},
    el("th", { scope: "row" }, `v${model.version}`),
    el("td", { class: "n nowrap" }, bytes(model.size_bytes)),
    el("td", { class: "n minor" }, model.parameters === null ? "" : number(model.parameters)),
    el("td", { class: "minor" }, el("code", { title: model.sha256 }, model.sha256.slice(0, 12))),
    el("td", {}, el("div", { class: "downloads" }, links)));
}
