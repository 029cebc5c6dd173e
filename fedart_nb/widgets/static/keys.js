/**
 * JupyterLab's shortcuts rest while the focus is inside a panel: `b` inserts no cell, `d d` deletes none, Enter and the
 * arrow keys belong to the control. Keys held with Ctrl, Alt or ⌘ (save, undo) still reach JupyterLab.
 *
 * And a button that nobody hears says so: after a click the kernel is asked for a sign of life.
 */
const MARK = "data-lm-suppress-shortcuts"; // what JupyterLab (Lumino) looks for, from the focused element upwards
const INSIDE = ".fedart-panel, .fedart-still";
const PATIENCE_MS = 6000;
const SILENT =
  "The kernel has not answered for some seconds. If a cell is running, this waits for it. If the kernel was restarted, " +
  "run this cell again. Still no answer? Reload the page, then run the cell again.";

function guard(event) {
  const panel = event.target instanceof Element ? event.target.closest(INSIDE) : null;
  if (!panel) return;
  const held = (event.ctrlKey || event.metaKey || event.altKey) && event.key !== "Enter";
  for (const element of [event.target, panel]) element.toggleAttribute(MARK, !held);
}

function initialize() {
  if (window.fedartKeys) return; // once a page, for all panels
  window.fedartKeys = true;
  window.addEventListener("keydown", guard, true);
}

function render({ model, el }) {
  let panel = null;
  let timer = 0;
  const hear = () => {
    clearTimeout(timer);
    timer = 0;
    el.replaceChildren();
    el.hidden = true;
  };
  const silent = () => {
    el.innerHTML = `<div class="fedart-notice fedart-warning fedart-silent" role="alert"><span class="fedart-sign"
      aria-hidden="true">▲</span><div><strong>No answer</strong><div></div></div></div>`;
    el.querySelector("strong + div").textContent = SILENT;
    el.hidden = false;
  };
  const ask = (event) => {
    if (timer || !(event.target instanceof Element) || !event.target.closest("button")) return;
    timer = setTimeout(silent, PATIENCE_MS);
    model.send({ kind: "ask" });
  };
  const mark = () => {
    panel ??= el.closest(INSIDE);
    if (!panel) return false;
    panel.setAttribute(MARK, "");
    panel.addEventListener("click", ask, true);
    return true;
  };
  el.hidden = true;
  if (!mark()) requestAnimationFrame(mark);
  model.on("msg:custom", hear);
  return () => {
    clearTimeout(timer);
    panel?.removeEventListener("click", ask, true);
    model.off("msg:custom", hear);
  };
}

export default { initialize, render };
