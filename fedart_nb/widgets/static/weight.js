/** A labelled native range whose value is said in words too. Plain JavaScript; nothing is fetched. */
const EVERY_MS = 100; // Python hears of a drag at most ten times a second, and always of its end

const OWN_KEYS = /^(Arrow|Home|End|Page)/; // JupyterLab takes them for moving between cells

function render({ model, el }) {
  const id = "fedart-weight-" + Math.random().toString(36).slice(2);
  el.innerHTML = `<div class="fedart-weight"><div class="fedart-weight-head"><label for="${id}"></label><output for="${id}"></output></div>
    <input id="${id}" type="range" min="0">
    <div class="fedart-weight-marks" aria-hidden="true"></div></div>`;
  const [head, input, marks] = el.firstElementChild.children;
  const [label, output] = head.children;
  let sentAt = 0;
  let timer = 0;

  const say = () => {
    const value = Number(input.value);
    const said = model.get("words")[String(value)] ?? String(value);
    output.textContent = said;
    input.setAttribute("aria-valuetext", said);
    input.style.setProperty("--at", `${(100 * value) / Math.max(1e-9, Number(input.max))}%`);
  };
  const send = () => {
    timer = 0;
    sentAt = performance.now();
    model.set("value", Number(input.value));
    model.save_changes();
  };
  const follow = () => {
    label.textContent = model.get("label");
    input.max = model.get("max");
    input.step = model.get("step");
    input.disabled = model.get("disabled");
    marks.replaceChildren(...model.get("marks").map((mark) => {
      const tick = document.createElement("span");
      tick.textContent = model.get("names")[String(mark)] ?? mark;
      tick.style.setProperty("--at", mark / model.get("max"));
      return tick;
    }));
    if (!timer) input.value = model.get("value"); // a drag that goes on is not pulled back
    say();
  };
  input.addEventListener("input", () => {
    say();
    if (!timer) timer = setTimeout(send, Math.max(0, sentAt + EVERY_MS - performance.now()));
  });
  input.addEventListener("keydown", (event) => { if (OWN_KEYS.test(event.key)) event.stopPropagation(); });
  model.on("change", follow);
  follow();
  return () => {
    clearTimeout(timer);
    model.off("change", follow);
  };
}

export default { render };
