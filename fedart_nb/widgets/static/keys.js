/**
 * JupyterLab's shortcuts rest while the focus is inside a panel: `b` inserts no cell, `d d` deletes none, Enter and the
 * arrow keys belong to the control. Keys held with Ctrl, Alt or ⌘ (save, undo) still reach JupyterLab.
 */
const MARK = "data-lm-suppress-shortcuts"; // what JupyterLab (Lumino) looks for, from the focused element upwards
const INSIDE = ".fedart-panel, .fedart-still";

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

function render({ el }) {
  el.hidden = true;
  const mark = () => el.closest(INSIDE)?.setAttribute(MARK, "");
  mark();
  requestAnimationFrame(mark);
}

export default { initialize, render };
