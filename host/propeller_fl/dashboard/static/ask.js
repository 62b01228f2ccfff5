// The question before something is ended, and what went wrong if it was not.

import { $ } from "/static/dom.js";

let act = null;

/** `act` is given the reason, and may throw; `wantsReason` asks for one, which may stay empty. */
export function ask({ title, text, go, wantsReason = false, act: then }) {
  act = then;
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-go").textContent = go;
  $("ask-reason").value = "";
  $("ask-reason").parentElement.hidden = !wantsReason;
  $("ask-error").textContent = "";
  $("ask").showModal();
  (wantsReason ? $("ask-reason") : $("ask-cancel")).focus(); // never what ends it
}

export function setUpAsk() {
  $("ask-cancel").addEventListener("click", () => $("ask").close());
  $("ask-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const asked = act;
    $("ask-error").textContent = "";
    $("ask-go").disabled = true;
    try {
      await asked($("ask-reason").value);
      if (asked === act) $("ask").close();
    } catch (error) {
      if (asked === act) $("ask-error").textContent = error.message;
    } finally {
      $("ask-go").disabled = false;
    }
  });
}
