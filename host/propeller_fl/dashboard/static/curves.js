// Curves as inline SVG; the same numbers are in the table below them.

import { $, el, measure, number, svg } from "/static/dom.js";

const WIDTH = 520;
const HEIGHT = 190;
const EDGE = { left: 52, right: 10, top: 10, bottom: 24 };
const MOST = 4; // metrics with a chart of their own

export function drawCurves(state) {
  const points = [...state.points.values()].sort((a, b) => a.version - b.version || (a.round_id < b.round_id ? -1 : 1));
  const names = [...new Set(points.flatMap((point) => Object.keys(point.metrics)))];
  const rank = (name) => ["loss", "accuracy"].indexOf(name) + 1 || 3;
  names.sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  $("no-points").hidden = names.length > 0;
  $("numbers").hidden = names.length === 0;
  $("charts").replaceChildren(...names.slice(0, MOST).map((name) => chartOf(name, points.filter((point) => name in point.metrics))));
  $("point-table").tHead.replaceChildren(el("tr", {},
    el("th", { scope: "col", class: "n" }, "Version"), el("th", { scope: "col" }, "Round"),
    names.map((name) => el("th", { scope: "col", class: "n" }, name)), el("th", { scope: "col", class: "n" }, "Updates"), el("th", { scope: "col", class: "n" }, "Samples")));
  $("point-table").tBodies[0].replaceChildren(...points.toReversed().slice(0, 500).map((point) => el("tr", {},
    el("th", { scope: "row", class: "n" }, String(point.version)),
    el("td", {}, point.round_id, point.evaluated ? " (evaluated)" : ""),
    names.map((name) => el("td", { class: "n" }, name in point.metrics ? measure(point.metrics[name]) : "")),
    el("td", { class: "n" }, number(point.updates)), el("td", { class: "n" }, number(point.samples)))));
}

function chartOf(name, points) {
  const values = points.map((point) => point.metrics[name]);
  const versions = points.map((point) => point.version);
  const [low, high, step] = scaleOf(Math.min(...values), Math.max(...values));
  const first = Math.min(...versions);
  const last = Math.max(...versions, first + 1);
  const x = (version) => EDGE.left + (version - first) / (last - first) * (WIDTH - EDGE.left - EDGE.right);
  const y = (value) => HEIGHT - EDGE.bottom - (value - low) / (high - low) * (HEIGHT - EDGE.top - EDGE.bottom);
  const now = values[values.length - 1];
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  picture.append(svg("title", {}, `${name}: ${measure(values[0])} at version ${versions[0]}, ${measure(now)} at version ${versions[versions.length - 1]}`));
  for (let value = low; value <= high + step / 2; value += step) {
    picture.append(
      svg("line", { class: "grid", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(value), y2: y(value) }),
      svg("text", { x: EDGE.left - 8, y: y(value) + 4, "text-anchor": "end" }, measure(Number(value.toPrecision(10)))));
  }
  for (const version of ticksOf(first, last)) {
    picture.append(svg("text", { x: x(version), y: HEIGHT - 7, "text-anchor": "middle" }, `v${version}`));
  }
  const trained = points.filter((point) => !point.evaluated);
  const path = trained.map((point, at) => `${at ? "L" : "M"}${x(point.version).toFixed(1)} ${y(point.metrics[name]).toFixed(1)}`).join("");
  picture.append(svg("path", { class: "line", d: path }));
  const size = points.length > 80 ? 1.5 : 3;
  for (const point of points) {
    const text = `v${point.version}: ${measure(point.metrics[name])}`;
    picture.append(svg("circle", { class: point.evaluated ? "eval" : "dot", cx: x(point.version), cy: y(point.metrics[name]), r: point.evaluated ? 4 : size }, svg("title", {}, text)));
  }
  const evaluated = points.some((point) => point.evaluated);
  return el("figure", {}, el("figcaption", {}, name, el("small", {}, measure(now)),
    evaluated ? el("small", { class: "legend-eval" }, "○ evaluated") : null), picture);
}

/** Round numbers around the values, three to six of them. */
function scaleOf(low, high) {
  if (high - low < 1e-12) { const room = Math.abs(high) * 0.1 || 1; low -= room; high += room; }
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough);
  return [Math.floor(low / step) * step, Math.ceil(high / step) * step, step];
}

function ticksOf(first, last) {
  const step = Math.max(1, Math.ceil((last - first) / 8));
  const ticks = [];
  for (let version = first; version <= last; version += step) ticks.push(version);
  return ticks;
}
