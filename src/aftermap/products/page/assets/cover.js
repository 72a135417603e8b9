// The page of any classes: they are painted over the image here, so that each can be shown or hidden.
const hidden = new Set(classes.flatMap((entry, kind) => entry.background ? [kind] : []));
const RGB = classes.map(({ colour }) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));

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
    const found = indices.get(tile);
    if (!found) return;  // not loaded yet
    const context = tile.image.getContext("2d");
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
    context.drawImage((tiles.under ?? tiles.pre)[position].image, 0, 0);
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

function countShown() {
  find("visible").textContent = `${classes.length - hidden.size} of ${classes.length} classes shown`;
}

told = (x, y) => classAt(x, y)?.label ?? "";
buildLegend((kind) => !hidden.has(kind), (kind, on) => {
  if (on) hidden.delete(kind); else hidden.add(kind);
  countShown();
  paintClasses();
});
countShown();
const loaded = loadImages();
start({ name: "Show classes", key: "c", fill: "Opacity of the classes", opacity: 0.6, changed: paintClasses });
// A small window into the page for scripts and tests.
Object.defineProperties(window.aftermap, Object.getOwnPropertyDescriptors({
  get mode() { return state.mode; },
  get shown() { return classes.filter((_, kind) => !hidden.has(kind)).map(({ name }) => name); },
  classAt: (col, row) => classAt(col * grid.stretch[0], row * grid.stretch[1])?.name ?? null,
  screenOf: (col, row) => toScreen(col * grid.stretch[0], row * grid.stretch[1]),
  pixelOf: (x, y) => [...base.getImageData(x * screen_.ratio, y * screen_.ratio, 1, 1).data],
}));
await loaded;
tiles.post.forEach(readIndices);
paintClasses();
