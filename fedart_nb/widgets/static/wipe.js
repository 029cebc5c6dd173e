/**
 * Two pictures in one frame and a movable edge. The edge is a native range laid over the frame, so mouse, touch, arrow
 * keys and screen readers work as with any slider. Plain JavaScript; nothing is fetched.
 */
const OWN_KEYS = /^(Arrow|Home|End|Page)/; // JupyterLab takes them for moving between cells

function render({ model, el }) {
  el.innerHTML = `<figure class="fedart-wipe"><div class="fedart-wipe-frame">
      <img class="fedart-wipe-left"><img class="fedart-wipe-right"><span class="fedart-wipe-none">not drawn yet</span>
      <span class="fedart-wipe-edge" aria-hidden="true"></span>
      <input type="range" min="0" max="100" value="50"></div>
    <figcaption><span></span><span></span></figcaption></figure>`;
  const figure = el.firstElementChild;
  const [frame, caption] = figure.children;
  const [left, right, none, edge, input] = frame.children;
  const urls = new Map();
  let pictures = [];

  const move = () => {
    figure.style.setProperty("--edge", `${input.value}%`);
    input.setAttribute("aria-valuetext",
      `${input.value} % ${model.get("left_title")}, ${100 - input.value} % ${model.get("right_title")}`);
  };
  const put = (image, bytes) => {
    if (urls.get(image)?.bytes === bytes) return;
    const old = urls.get(image)?.url;
    const url = bytes?.byteLength ? URL.createObjectURL(new Blob([bytes], { type: "image/png" })) : "";
    image.hidden = !url;
    if (url) image.src = url;
    else image.removeAttribute("src");
    if (old) URL.revokeObjectURL(old);
    urls.set(image, { bytes, url });
  };
  const follow = () => {
    put(left, pictures[0]);
    put(right, pictures[1]);
    left.alt = model.get("left_alt");
    right.alt = model.get("right_alt");
    none.hidden = !(left.hidden && right.hidden);
    input.hidden = edge.hidden = left.hidden || right.hidden;
    input.setAttribute("aria-label", `Edge between ${model.get("left_title")} and ${model.get("right_title")}`);
    caption.children[0].textContent = model.get("left_title") && `◀ ${model.get("left_title")}`;
    caption.children[1].textContent = model.get("right_title") && `${model.get("right_title")} ▶`;
    figure.style.setProperty("--size", `${model.get("size_px")}px`);
    figure.classList.toggle("fedart-wipe-both", !input.hidden);
    move();
  };
  input.addEventListener("input", move);
  input.addEventListener("keydown", (event) => { if (OWN_KEYS.test(event.key)) event.stopPropagation(); });
  const take = (message, buffers) => {
    if (message?.kind !== "pictures") return;
    pictures = buffers;
    follow();
  };
  model.on("change", follow);
  model.on("msg:custom", take);
  follow();
  model.send({ kind: "ask" });
  return () => {
    model.off("change", follow);
    model.off("msg:custom", take);
    for (const { url } of urls.values()) if (url) URL.revokeObjectURL(url);
  };
}

export default { render };
