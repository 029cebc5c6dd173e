/** A labelled text field whose text goes to the kernel as a message: no saved notebook holds it. */
function render({ model, el }) {
  const id = "fedart-text-" + Math.random().toString(36).slice(2);
  el.innerHTML = `<div class="fedart-copy"><label for="${id}"></label>
    <input id="${id}" type="text" spellcheck="false" autocomplete="off"></div>`;
  const [label, input] = el.firstElementChild.children;
  const follow = () => {
    label.textContent = model.get("label");
    input.placeholder = model.get("placeholder");
    input.disabled = model.get("disabled");
  };
  const take = (message) => {
    if (message?.kind === "text" && message.text !== input.value) input.value = message.text;
  };
  input.addEventListener("input", () => model.send({ kind: "text", text: input.value }));
  model.on("change", follow);
  model.on("msg:custom", take);
  follow();
  model.send({ kind: "ask" });
  return () => {
    model.off("change", follow);
    model.off("msg:custom", take);
  };
}

export default { render };
