// Least squares: the model {"w": [features]} is to give y as w . x. See docs/write-a-client.md.

import { environment, fail, file, output } from "./wasi";
import { member, Numbers, parse } from "./json";

const env = environment();

function variable(name: string, otherwise: string): string {
  return env.has(name) && env.get(name).length > 0 ? env.get(name) : otherwise;
}

function setting(given: Map<string, Numbers>, name: string, otherwise: f32): f32 {
  return given.has(name) ? given.get(name).values[0] : otherwise;
}

/** One pass over the samples, each a step down its gradient; the mean loss before each step. */
function pass(w: Array<f32>, x: Array<f32>, y: Array<f32>, lr: f32): f32 {
  let sum: f32 = 0;
  for (let s = 0; s < y.length; s++) {
    const first = s * w.length;
    let error: f32 = -y[s];
    for (let i = 0; i < w.length; i++) error += w[i] * x[first + i];
    for (let i = 0; i < w.length; i++) w[i] -= lr * error * x[first + i];
    sum += <f32>0.5 * error * error;
  }
  return sum / <f32>y.length;
}

function main(): void {
  const given = parse("hyperparams", Uint8Array.wrap(String.UTF8.encode(variable("HYPERPARAMS", "{}"))));
  const w = member("model", parse("model", file("model")), "w").values;
  const data = parse("data", file("data"));
  const x = member("data", data, "x");
  const y = member("data", data, "y").values;
  const train = variable("FL_MODE", "train") == "train";

  if (variable("FL_UPDATE_FORMAT", "json") != "json") fail("this client writes JSON alone");
  if (y.length == 0 || x.rows != y.length || x.values.length != y.length * w.length) {
    fail("data: " + x.rows.toString() + " rows and " + y.length.toString() + " labels do not fit");
  }
  const epochs = train ? <i32>setting(given, "epochs", 5) : 1;
  const lr = train ? setting(given, "lr", 0.1) : <f32>0;
  let loss: f32 = 0;
  for (let epoch = 0; epoch < epochs; epoch++) loss = pass(w, x.values, y, lr);
  if (!isFinite(loss)) fail("training: the loss is not finite; try a smaller lr");

  const proplet = variable("PROPLET_ID", "");
  output(
    '{"round_id":"' + variable("ROUND_ID", "") + '",' +
    (proplet.length > 0 ? '"proplet_id":"' + proplet + '",' : "") +
    '"base_model_uri":"' + variable("MODEL_URI", "") + '",' +
    '"num_samples":' + y.length.toString() + "," +
    '"metrics":{"loss":' + loss.toString() + "}," +
    '"update":{' + (train ? '"w":[' + w.join(",") + "]" : "") + "}}"
  );
}

main();
