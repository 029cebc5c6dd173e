/**
 * Chooses pictures, shrinks them in the browser and so drops their metadata, and sends each in a message of its own.
 * One message with all files would be cut off at 10 MiB without a word. Plain JavaScript; nothing is fetched.
 */
const TEXTS = /\.(txt|csv|jsonl)$/i;

/** @returns {Promise<ArrayBuffer>} a PNG no larger than `maxPx`, upright, without metadata */
async function shrink(file, maxPx) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const scale = Math.min(1, maxPx / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  return blob.arrayBuffer();
}

function render({ model, el }) {
  const id = "fedart-upload-" + Math.random().toString(36).slice(2);
  el.innerHTML = `<div class="fedart-upload"><label for="${id}"></label>
    <input id="${id}" type="file" multiple accept="image/*,.txt,.csv,.jsonl" aria-describedby="${id}-help">
    <p id="${id}-help"></p><p class="fedart-upload-state" role="status"></p></div>`;
  const zone = el.firstElementChild;
  const input = zone.querySelector("input");
  const state = zone.querySelector(".fedart-upload-state");
  zone.querySelector("label").textContent = model.get("label");
  zone.querySelector(`[id="${id}-help"]`).textContent = model.get("help");

  async function take(files) {
    if (!files.length) return;
    const limit = model.get("limit_bytes");
    const problems = [];
    input.disabled = true;
    model.send({ kind: "begin", count: files.length });
    for (const [i, file] of files.entries()) {
      state.textContent = `Preparing ${i + 1} of ${files.length}`;
      let data;
      try {
        data = TEXTS.test(file.name) ? await file.arrayBuffer() : await shrink(file, model.get("max_px"));
      } catch {
        data = await file.arrayBuffer(); // not a format of this browser: the kernel may know it, or says what is wrong
      }
      if (data.byteLength > limit) {
        problems.push({ name: file.name, size_bytes: data.byteLength });
        continue;
      }
      model.send({ kind: "file", name: file.name }, undefined, [data]);
    }
    model.send({ kind: "end", problems });
    state.textContent = `${files.length - problems.length} of ${files.length} files handed to the kernel`;
    input.disabled = model.get("disabled");
    input.value = "";
  }

  const follow = () => { input.disabled = model.get("disabled"); };
  model.on("change:disabled", follow);
  follow();
  input.addEventListener("change", () => take([...input.files]));
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("fedart-over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("fedart-over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("fedart-over");
    if (!input.disabled) take([...event.dataTransfer.files]);
  });
  return () => model.off("change:disabled", follow);
}

export default { render };
