// Before anything is drawn, so that no page flashes in the wrong colours.
"use strict";
(() => {
  let kept = null;
  try { kept = localStorage.getItem("theme"); } catch { /* storage is off: as the system */ }
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
})();
