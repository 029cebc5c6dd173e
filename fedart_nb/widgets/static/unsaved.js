/**
 * HTML that is shown in the page and saved with no notebook: it comes as a message, never as a part of the state.
 * `saved` is the same HTML, and empty unless the artist wants it kept. The HTML is made and escaped in the kernel.
 */
const shown = new WeakMap(); // by model: what came last

function initialize({ model }) {
  model.on("msg:custom", (message) => {
    if (message?.kind === "html") shown.set(model, message.html);
  });
}

function render({ model, el }) {
  el.classList.add("jupyter-widgets", "widget-html");
  const content = document.createElement("div");
  content.className = "widget-html-content";
  el.replaceChildren(content);
  const paint = (html) => {
    content.innerHTML = html;
  };
  const take = (message) => {
    if (message?.kind === "html") paint(message.html);
  };
  model.on("msg:custom", take);
  paint(shown.get(model) ?? model.get("saved"));
  model.send({ kind: "ask" });
  return () => model.off("msg:custom", take);
}

export default { initialize, render };
