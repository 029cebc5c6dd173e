/** A read-only text with a button that copies it; it comes as a message, so that no saved notebook holds it. */
function render({ model, el }) {
  const id = "fedart-copy-" + Math.random().toString(36).slice(2);
  el.innerHTML = `<div class="fedart-copy"><label for="${id}"></label>
    <input id="${id}" type="text" readonly spellcheck="false">
    <button type="button" class="fedart-button jupyter-button">Copy</button><span role="status"></span></div>`;
  const [label, input, button, state] = el.firstElementChild.children;
  button.disabled = true;
  const follow = () => {
    label.textContent = model.get("label");
  };
  const take = (message) => {
    if (message?.kind !== "text") return;
    input.value = message.text;
    button.disabled = !message.text;
    state.textContent = "";
  };
  input.addEventListener("focus", () => input.select());
  button.addEventListener("click", async () => {
    input.select();
    try {
      await navigator.clipboard.writeText(input.value);
      state.textContent = "Copied";
    } catch {
      state.textContent = "Selected: press Ctrl+C or ⌘C";
    }
  });
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
