// The page of any classes: they are painted over the image here, so that each can be shown or hidden.
const hidden = new Set(classes.flatMap((entry, kind) => entry.background ? [kind] : []));
const RGB = classes.map(({ colour }) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
state.fill = 0.6;

// Class indices of each tile, as the grey values of a picture that nothing has changed.
const indices = new Map();
function readIndices(tile) {
  const canvas = Object.assign(document.createElement("canvas"), { width: tile.width, height: tile.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(tile.image, 0, 0);
  const { data: bytes } = context.getImageData(0, 0, tile.width, tile.height);
  indices.set(tile, Uint8Array.from({ length: tile.width * tile.height }, (_, i) => bytes[4 * i]));
  tile.image = Object.assign(canvas, { complete: true });  // from here on the painting
}

function paintClasses() {
  const alpha = state.outlines ? state.fill : 0;
  tiles.post.forEach((tile, position) => {
    const found = indices.get(tile), context = tile.image.getContext("2d");
    const layer = new OffscreenCanvas(tile.width, tile.height), pixels = new ImageData(tile.width, tile.height);
    for (let i = 0; i < found.length; i++) {
      const kind = found[i];
      if (kind >= classes.length || hidden.has(kind)) continue;
      pixels.data.set(RGB[kind], 4 * i);
      pixels.data[4 * i + 3] = 255;
    }
    layer.getContext("2d").putImageData(pixels, 0, 0);
    context.globalAlpha = 1;
    context.clearRect(0, 0, tile.width, tile.height);
    context.drawImage(tiles.pre[position].image, 0, 0);
    context.globalAlpha = alpha;
    context.drawImage(layer, 0, 0);
  });
  redraw("base");
}

// Class at a point of the world; null off the map and where nothing was assessed.
function classAt(x, y) {
  const col = Math.floor(x / world.width * data.images.width), row = Math.floor(y / world.height * data.images.height);
  for (const [tile, found] of indices) {
    const dx = col - tile.x, dy = row - tile.y;
    if (dx >= 0 && dy >= 0 && dx < tile.width && dy < tile.height) return classes[found[dy * tile.width + dx]] ?? null;
  }
  return null;
}

function buildLegend() {
  for (const [kind, entry] of classes.entries()) {
    const box = element("input", "", { type: "checkbox", checked: !hidden.has(kind) });
    box.dataset.kind = kind;
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(kind); else hidden.add(kind);
      countShown();
      paintClasses();
    });
    find("legend").append(element("label", [
      box, element("span", "", { className: "swatch edged", style: { background: entry.colour } }), element("span", entry.label, { className: "name" }),
      element("span", entry.amount, { className: "count" }), element("span", entry.percent, { className: "share" }),
    ]));
    if (entry.share) find("shares").append(element("i", "", { style: { flexGrow: entry.share, background: entry.colour } }));
  }
  const [amount, text] = data.words.headline;
  find("headline").append(...(amount ? [element("b", amount), text] : [text]));
}

function countShown() {
  find("visible").textContent = `${classes.length - hidden.size} of ${classes.length} classes shown`;
}

function setClasses(on) {
  state.outlines = find("outlines").checked = on;
  paintClasses();
}

function listenToPanel() {
  find("fill").addEventListener("input", (event) => {
    state.fill = event.target.value / 100;
    find("fill-value").textContent = percent(state.fill);
    paintClasses();
  });
  find("outlines").addEventListener("change", (event) => setClasses(event.target.checked));
  find("fold").addEventListener("click", () => fold(!find("panel").classList.contains("folded")));
  find("zoom-in").addEventListener("click", () => zoomBy(1.6));
  find("zoom-out").addEventListener("click", () => zoomBy(1 / 1.6));
  find("zoom-fit").addEventListener("click", fit);
  for (const button of document.querySelectorAll(".modes button")) button.addEventListener("click", () => setMode(button.dataset.mode));
  map.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse" || event.buttons || event.target.closest("button, #handle")) return;
    const frame = map.getBoundingClientRect(), x = event.clientX - frame.left, y = event.clientY - frame.top;
    const entry = classAt(...toWorld(x, y));
    tooltip.hidden = !entry;
    if (!entry) return;
    tooltip.textContent = entry.label;
    tooltip.style.left = `${Math.min(x + 14, screen_.width - tooltip.offsetWidth - 8)}px`;
    tooltip.style.top = `${Math.min(y + 16, screen_.height - tooltip.offsetHeight - 8)}px`;
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input") && event.target.type !== "checkbox" || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = { 1: () => setMode("pre"), 2: () => setMode("swipe"), 3: () => setMode("post"), c: () => setClasses(!state.outlines) };
    keys[event.key.length === 1 ? event.key.toLowerCase() : event.key]?.();
  });
}

find("title").textContent = data.title;
find("model").textContent = data.model;
for (const warning of data.warnings) find("warnings").append(element("p", warning));
find("warnings").hidden = !data.warnings.length;
for (const line of data.about) find("about").append(element("p", line));
if (grid.north !== null) {
  find("north").hidden = false;
  find("north").style.transform = `rotate(${grid.north}deg)`;
}
buildLegend();
countShown();
listenToMap();
listenToPanel();
setMode("post");
setSwipe(0.5);
// A small window into the page for scripts and tests.
window.aftermap = {
  ready: loadImages().then(() => { tiles.post.forEach(readIndices); paintClasses(); }),
  get mode() { return state.mode; },
  get shown() { return classes.filter((_, kind) => !hidden.has(kind)).map(({ name }) => name); },
  classAt: (col, row) => classAt(col * grid.stretch[0], row * grid.stretch[1])?.name ?? null,
  screenOf: (col, row) => toScreen(col * grid.stretch[0], row * grid.stretch[1]),
  pixelOf: (x, y) => [...base.getImageData(x * screen_.ratio, y * screen_.ratio, 1, 1).data],
};
