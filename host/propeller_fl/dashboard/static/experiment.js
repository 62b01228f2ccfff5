// The form that starts an experiment: the text of its file.

import { $ } from "/static/dom.js";
import { post } from "/static/app.js";

export function setUpExperiment(state) {
  const text = $("experiment-text");
  $("new-experiment").addEventListener("click", () => {
    if (!text.value.trim()) text.value = example(state);
    $("experiment-error").textContent = "";
    $("experiment").showModal();
    text.focus();
  });
  $("experiment-cancel").addEventListener("click", () => $("experiment").close());
  $("experiment-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    $("experiment-error").textContent = "";
    $("experiment-go").disabled = true;
    try {
      await post("/api/experiments", { toml: text.value });
      text.value = ""; // the next one has another name
      $("experiment").close();
      $("new-experiment").focus();
    } catch (error) {
      $("experiment-error").textContent = error.message;
    } finally {
      $("experiment-go").disabled = false;
    }
  });
}

function example(state) {
  const stamp = new Date().toISOString().replace(/[-:]/g, "").replace("T", "-").slice(0, 15);
  const newest = Math.max(0, ...state.models.keys());
  const image = state.me.choices.images?.[0] ?? "builtin:linear";
  return `experiment_id = "x-${stamp}"
task_wasm_image = "${image}"
model_uri = "fl/models/global_model_v${newest}"
timeout_s = 60

[hyperparams]
epochs = 1
lr = 0.1
batch_size = 16

[participants]   # of those who are alive
at_least = 1

[stop]
rounds = 5
`;
}
