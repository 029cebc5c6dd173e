/**
 * Chooses pictures, shrinks them in the browser and so drops their metadata, and sends each in messages of its own.
 * One message with all files would be cut off at 10 MiB without a word. Plain JavaScript; nothing is fetched.
 * Whatever happens to a file, the kernel hears of it: by its bytes, or by its name and what is wrong.
 */
const TEXTS = /\.(txt|text|csv|tsv|jsonl|ndjson|json|captions?|cap|prompt|desc|description|tags)$/i;
const SIDE_FILES = /^(\.|__MACOSX|thumbs\.db$|desktop\.ini$)/i;
const PICTURES = ".tif,.tiff,.heic,.heif,.avif,.bmp,.jfif";
const LISTED_TEXTS = ".txt,.csv,.tsv,.jsonl,.json,.caption,.captions";
const DEPTH = 16;

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

/** @returns {Promise<number>} how many pictures an animation has, where this browser can tell */
async function frames(file) {
  if (!globalThis.ImageDecoder || !/^image\/(gif|webp|a?png)$/.test(file.type)) return 1;
  try {
    const decoder = new ImageDecoder({ data: await file.arrayBuffer(), type: file.type });
    await decoder.tracks.ready;
    const count = decoder.tracks.selectedTrack?.frameCount ?? 1;
    decoder.close();
    return count;
  } catch {
    return 1;
  }
}

/** The files of a dropped folder with their paths in it; `found` and `problems` are filled. */
async function walk(entry, path, depth, found, problems, most) {
  if (SIDE_FILES.test(entry.name)) return;
  const name = path + entry.name;
  try {
    if (entry.isFile) {
      if (found.length >= most) return;
      found.push({ file: await new Promise((done, failed) => entry.file(done, failed)), name });
      return;
    }
    if (depth >= DEPTH) throw new Error("too deep");
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) return;
      for (const inner of some) await walk(inner, `${name}/`, depth + 1, found, problems, most);
    }
  } catch {
    problems.push({ kind: entry.isFile ? "unreadable" : "folder", name });
  }
}

function render({ model, el }) {
  const id = "fedart-upload-" + Math.random().toString(36).slice(2);
  el.innerHTML = `<div class="fedart-upload"><label for="${id}"></label>
    <input id="${id}" type="file" multiple accept="image/*,${PICTURES},${LISTED_TEXTS}" aria-describedby="${id}-help">
    <p id="${id}-help"></p><p class="fedart-upload-state" role="status"></p></div>`;
  const zone = el.firstElementChild;
  const input = zone.querySelector("input");
  const state = zone.querySelector(".fedart-upload-state");
  zone.querySelector("label").textContent = model.get("label");
  zone.querySelector(`[id="${id}-help"]`).textContent = model.get("help");
  let preparing = false;

  /** One file: shrunk where this browser can read it, else as it is; in parts that a notebook server lets through. */
  async function hand(file, name, problems) {
    let data;
    const count = await frames(file);
    try {
      data = TEXTS.test(name) ? await file.arrayBuffer() : await shrink(file, model.get("max_px"));
      if (count > 1) problems.push({ kind: "frames", name, count });
    } catch {
      if (file.size > model.get("limit_bytes")) {
        problems.push({ kind: "large", name, size_bytes: file.size });
        return;
      }
      data = await file.arrayBuffer(); // not a format of this browser: the kernel may know it, or says what is wrong
    }
    if (data.byteLength > model.get("limit_bytes")) {
      problems.push({ kind: "large", name, size_bytes: data.byteLength });
      return;
    }
    const part = model.get("part_bytes");
    const parts = Math.max(1, Math.ceil(data.byteLength / part));
    for (let i = 0; i < parts; i++) {
      model.send({ kind: "file", name, part: i + 1, parts }, undefined, [data.slice(i * part, (i + 1) * part)]);
    }
  }

  async function take(chosen, problems) {
    if (!chosen.length && !problems.length) return;
    preparing = true;
    input.disabled = true;
    model.send({ kind: "begin", count: chosen.length });
    for (const [i, { file, name }] of chosen.entries()) {
      state.textContent = `Preparing ${i + 1} of ${chosen.length}`;
      try {
        await hand(file, name, problems);
      } catch {
        const folder = !file.type && file.size % 4096 === 0; // what a browser without directory entries gives for one
        problems.push({ kind: folder ? "folder" : "unreadable", name });
      }
    }
    model.send({ kind: "end", problems });
    const lost = problems.filter((problem) => problem.kind !== "frames");
    const handed = chosen.length - lost.filter((problem) => problem.kind !== "empty").length;
    state.textContent = `${Math.max(0, handed)} of ${chosen.length} files handed to the kernel` +
      (lost.length ? `; ${lost.length} could not be: ${lost.slice(0, 3).map((one) => one.name).join(", ")}` : "");
    preparing = false;
    input.disabled = model.get("disabled");
    input.value = "";
  }

  async function drop(transfer) {
    const entries = [...(transfer.items ?? [])].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const files = [...transfer.files];
    const problems = [];
    if (!files.length && !entries.length) {
      state.textContent = "That was no file. Save the picture first, then drop it here.";
      return;
    }
    if (!entries.some((entry) => entry.isDirectory)) {
      await take(files.map((file) => ({ file, name: file.name })), problems);
      return;
    }
    state.textContent = "Looking into the folder";
    const found = [];
    const most = model.get("most_files");
    for (const entry of entries) await walk(entry, "", 0, found, problems, most);
    if (found.length >= most) problems.push({ kind: "many", name: entries[0].name, count: most });
    if (!found.length && !problems.length) problems.push({ kind: "empty", name: entries[0].name });
    await take(found, problems);
  }

  const follow = () => { input.disabled = preparing || model.get("disabled"); };
  model.on("change:disabled", follow);
  follow();
  input.addEventListener("change", () => take([...input.files].map((file) => ({ file, name: file.name })), []));
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("fedart-over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("fedart-over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("fedart-over");
    if (input.disabled) state.textContent = "Other work is running. Drop the files again when it is over.";
    else drop(event.dataTransfer);
  });
  return () => model.off("change:disabled", follow);
}

export default { render };
