/** A read-only text with a button that copies it. Plain JavaScript; nothing is fetched. */
function render({ model, el }) {
  const id = "fedart-copy-" + Math.random().toString(36).slice(2);
  el.innerHTML = `<div class="fedart-copy"><label for="${id}"></label>
    <input id="${id}" type="text" readonly spellcheck="false">
    <button type="button" class="fedart-button jupyter-button">Copy</button><span role="status"></span></div>`;
  const [label, input, button, state] = el.firstElementChild.children;
  const follow = () => {
    label.textContent = model.get("label");
    input.value = model.get("text");
    button.disabled = !model.get("text");
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
  follow();
  return () => model.off("change", follow);
}

export default { render };
