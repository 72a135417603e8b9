// The map: two canvases (imagery below, buildings above), a camera, a divider, pointers and keys.
const map = document.getElementById("map");
const base = document.getElementById("base").getContext("2d", { alpha: false });
const overlay = document.getElementById("overlay").getContext("2d");
const handle = document.getElementById("handle"), divider = document.getElementById("divider");
const tooltip = document.getElementById("tooltip"), cursor = document.getElementById("cursor");
const state = { mode: "swipe", swipe: 0.5, fill: 0.35, outlines: true, selected: -1, hovered: -1 };
const camera = { x: world.width / 2, y: world.height / 2, scale: 1 };  // centre in world units; screen pixels per unit
const screen_ = { width: 1, height: 1, ratio: 1 };
const dirty = { base: true, overlay: true, moved: false, queued: false };
const drawn = { x: 0, y: 0, scale: 1, took: 0 };  // the camera of the buildings on the screen, and how long they took
const SMOOTH_MS = 25;
let settling = 0, settleMs = 140;
const BATCH = 6;
let onSelect = () => {}, drawAreas = () => {}, told = () => "";  // told: what lies at a point of the world, in words

const tiles = {};
function loadImages() {
  const loads = [];
  for (const date of ["pre", "post", "under"]) {
    tiles[date] = data.images[date]?.map((tile) => {
      const image = new Image();
      image.src = tile.src;
      loads.push(image.decode().then(() => redraw("base")));
      return { ...tile, image };
    });
  }
  return Promise.all(loads);
}

function redraw(...layers) {
  for (const layer of layers) dirty[layer] = true;
  if (dirty.queued) return;
  dirty.queued = true;
  requestAnimationFrame(() => {
    dirty.queued = false;
    if (dirty.base) drawImagery();
    if (dirty.overlay || dirty.moved && drawn.took <= SMOOTH_MS) drawTimed();
    else if (dirty.moved) slide();
    dirty.base = dirty.overlay = dirty.moved = false;
  });
}

function drawTimed() {
  clearTimeout(settling);
  const begun = performance.now();
  drawBuildings();
  Object.assign(drawn, camera, { took: performance.now() - begun });
  overlay.canvas.style.transform = "none";
}

// Buildings that take long to draw move as a picture until the camera rests.
function slide() {
  const factor = camera.scale / drawn.scale;
  const shift = (size, from, to) => size / 2 * (1 - factor) + (from - to) * camera.scale;
  const [dx, dy] = [shift(screen_.width, drawn.x, camera.x), shift(screen_.height, drawn.y, camera.y)];
  overlay.canvas.style.transform = `translate(${dx}px, ${dy}px) scale(${factor})`;
  clearTimeout(settling);
  settling = setTimeout(() => redraw("overlay"), settleMs);
}

const toScreen = (x, y) => [(x - camera.x) * camera.scale + screen_.width / 2, (y - camera.y) * camera.scale + screen_.height / 2];
const toWorld = (x, y) => [(x - screen_.width / 2) / camera.scale + camera.x, (y - screen_.height / 2) / camera.scale + camera.y];

function drawImagery() {
  const ratio = screen_.ratio, split = state.mode === "pre" ? 1 : state.mode === "post" ? 0 : state.swipe;
  base.setTransform(1, 0, 0, 1, 0, 0);
  base.fillStyle = "#d9dfe4";
  base.fillRect(0, 0, base.canvas.width, base.canvas.height);
  const unit = [world.width / data.images.width, world.height / data.images.height];
  base.imageSmoothingEnabled = camera.scale * unit[0] * ratio < 4;
  const border = Math.round(split * base.canvas.width);
  for (const [date, from, to] of [["pre", 0, border], ["post", border, base.canvas.width]]) {
    if (to <= from) continue;
    base.save();
    base.beginPath();
    base.rect(from, 0, to - from, base.canvas.height);
    base.clip();
    for (const tile of tiles[date]) {
      // Edges are rounded to whole device pixels, so that neighbouring tiles leave no seam.
      const [x0, y0] = toScreen(tile.x * unit[0], tile.y * unit[1]).map((v) => Math.round(v * ratio));
      const [x1, y1] = toScreen((tile.x + tile.width) * unit[0], (tile.y + tile.height) * unit[1]).map((v) => Math.round(v * ratio));
      if (x1 < from || x0 > to || y1 < 0 || y0 > base.canvas.height || !tile.image.complete) continue;
      base.drawImage(tile.image, x0, y0, x1 - x0, y1 - y0);
    }
    base.restore();
  }
  drawAreas(base);
}

function trace(context, b) {
  for (let r = firstRing[b]; r < firstRing[b + 1]; r++) {
    context.moveTo(xs[ringAt[r]], ys[ringAt[r]]);
    for (let i = ringAt[r] + 1; i < ringAt[r + 1]; i++) context.lineTo(xs[i], ys[i]);
    context.closePath();
  }
}

function drawBuildings() {
  const { ratio, width, height } = screen_, scale = camera.scale;
  overlay.setTransform(1, 0, 0, 1, 0, 0);
  overlay.clearRect(0, 0, overlay.canvas.width, overlay.canvas.height);
  if (!state.outlines) return;
  const k = scale * ratio;
  overlay.setTransform(k, 0, 0, k, (width / 2 - camera.x * scale) * ratio, (height / 2 - camera.y * scale) * ratio);
  const [west, north] = toWorld(0, 0), [east, south] = toWorld(width, height);
  const byClass = classes.map(() => []);
  index(west, north, east, south, (b) => { if (shown[b]) byClass[kindOf[b]].push(b); });
  const fill = !tinted && state.mode === "post" ? 0 : state.fill;  // would tint the probability
  const small = 5 / scale, speck = 2.5 / scale;  // smaller buildings are drawn as their box, at least a speck
  overlay.lineJoin = "round";
  // Not assessed first, then from undamaged to destroyed (or from sure to doubtful), so that the worst lies on top.
  for (const kind of [classes.length - 1, ...classes.keys()].slice(0, classes.length)) {
    const { colour, assessed } = classes[kind];
    overlay.fillStyle = overlay.strokeStyle = colour;
    overlay.setLineDash(assessed ? [] : [4 / scale, 3 / scale]);
    overlay.lineWidth = Math.min(1.8, Math.max(0.7, scale * 1.6)) / scale;
    let traced = 0;
    // Neighbours share a path, but only few: rasterising one path of thousands of rings takes seconds.
    const paint = () => {
      overlay.globalAlpha = assessed ? fill : fill / 2;
      overlay.fill();
      overlay.globalAlpha = 1;
      overlay.stroke();
      overlay.beginPath();
      overlay.globalAlpha = 0.85;
      traced = 0;
    };
    overlay.beginPath();
    overlay.globalAlpha = 0.85;
    for (const b of byClass[kind]) {
      const i = 4 * b, w = boxes[i + 2] - boxes[i], h = boxes[i + 3] - boxes[i + 1];
      if (w < small && h < small) overlay.fillRect(boxes[i], boxes[i + 1], Math.max(w, speck), Math.max(h, speck));
      else {
        trace(overlay, b);
        if (++traced === BATCH) paint();
      }
    }
    paint();
  }
  overlay.globalAlpha = 1;
  overlay.setLineDash([]);
  for (const b of [state.hovered, state.selected]) {
    if (b < 0 || !shown[b]) continue;
    overlay.beginPath();
    trace(overlay, b);
    for (const [colour, thickness] of [["#10202e", 6], ["#ffffff", 3.2]]) {
      overlay.strokeStyle = colour;
      overlay.lineWidth = (b === state.selected ? thickness : thickness * 0.6) / scale;
      overlay.stroke();
    }
  }
}

const bounds = () => {
  const whole = Math.min(screen_.width / world.width, screen_.height / world.height);
  return { least: whole * 0.6, most: Math.max(24, whole * 4), whole };
};

function moved() {
  const { least, most } = bounds();
  camera.scale = Math.max(least, Math.min(most, camera.scale));
  camera.x = Math.max(0, Math.min(world.width, camera.x));
  camera.y = Math.max(0, Math.min(world.height, camera.y));
  drawScale();
  redraw("base", "moved");
}

function fit() {
  Object.assign(camera, { x: world.width / 2, y: world.height / 2, scale: bounds().whole * 0.97 });
  moved();
}

function zoomBy(factor, x = screen_.width / 2, y = screen_.height / 2) {
  const [wx, wy] = toWorld(x, y), { least, most } = bounds();
  camera.scale = Math.max(least, Math.min(most, camera.scale * factor));
  camera.x = wx - (x - screen_.width / 2) / camera.scale;
  camera.y = wy - (y - screen_.height / 2) / camera.scale;
  moved();
}

function zoomTo(b) {
  const k = 4 * b, size = Math.max(boxes[k + 2] - boxes[k], boxes[k + 3] - boxes[k + 1]);
  Object.assign(camera, { x: (boxes[k] + boxes[k + 2]) / 2, y: (boxes[k + 1] + boxes[k + 3]) / 2 });
  camera.scale = Math.max(bounds().whole, Math.min(screen_.width, screen_.height) / Math.max(size * 5, 100));
  moved();
}

function drawScale() {
  const unit = grid.unit_m, length = unit ? 110 / camera.scale * unit : 110 / camera.scale;
  const power = 10 ** Math.floor(Math.log10(length));
  const nice = [5, 2, 1].map((f) => f * power).find((f) => f <= length);
  const bar = document.querySelector("#scale span");
  bar.style.width = `${(unit ? nice / unit : nice) * camera.scale}px`;
  bar.textContent = !unit ? `${nice} px` : nice >= 1000 ? `${nice / 1000} km` : `${nice} m`;
}

function setSwipe(share) {
  state.swipe = Math.max(0, Math.min(1, share));
  for (const element of [handle, divider]) element.style.left = `${state.swipe * 100}%`;
  handle.setAttribute("aria-valuenow", Math.round(state.swipe * 100));
  placeLabels();
  redraw("base");
}

function placeLabels() {
  const pre = document.getElementById("label-pre"), post = document.getElementById("label-post");
  const swiping = state.mode === "swipe", x = state.swipe * screen_.width;
  pre.hidden = state.mode === "post" || (swiping && x < 36 + 8 * pre.textContent.length);
  post.hidden = state.mode === "pre" || (swiping && screen_.width - x < 90 + 8 * post.textContent.length);
  pre.style.left = swiping ? `${x - 12}px` : "12px";
  pre.style.transform = swiping ? "translateX(-100%)" : "none";
  post.style.left = swiping ? `${x + 12}px` : "12px";
}

function setMode(mode) {
  state.mode = mode;
  for (const button of document.querySelectorAll(".modes button")) {
    button.setAttribute("aria-checked", String(button.dataset.mode === mode));
  }
  handle.hidden = divider.hidden = mode !== "swipe";
  placeLabels();
  redraw("base", "overlay");
}

function hover(x, y) {
  const [wx, wy] = toWorld(x, y), text = told(wx, wy);
  tooltip.hidden = !text;
  tooltip.textContent = text;
  tooltip.style.left = `${Math.min(x + 14, screen_.width - tooltip.offsetWidth - 8)}px`;
  tooltip.style.top = `${Math.min(y + 16, screen_.height - tooltip.offsetHeight - 8)}px`;
  const place = lonLat(wx, wy), inside = wx >= 0 && wy >= 0 && wx <= world.width && wy <= world.height;
  cursor.textContent = !inside ? "" : place ? lonLatText(place)
    : `column ${Math.floor(wx / grid.stretch[0])}, row ${Math.floor(wy / grid.stretch[1])}`;
}

const percent = (value) => `${Math.round(value * 100)} %`;
const lonLatText = ([lon, lat]) => `${Math.abs(lat).toFixed(5)}° ${lat < 0 ? "S" : "N"}, ${Math.abs(lon).toFixed(5)}° ${lon < 0 ? "W" : "E"}`;

function listenToMap() {
  const pointers = new Map();
  let travelled = 0;
  const local = (event) => {
    const frame = map.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  };
  map.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button, #handle, #times")) return;
    map.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, local(event));
    if (pointers.size === 1) travelled = 0;
  });
  map.addEventListener("pointermove", (event) => {
    const now = local(event), before = pointers.get(event.pointerId);
    if (!before) { if (event.pointerType === "mouse" && !event.target.closest("button, #handle, #times")) hover(...now); return; }
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    pointers.set(event.pointerId, now);
    travelled += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (travelled > 4) { map.classList.add("dragging"); tooltip.hidden = true; }
    const share = pointers.size;
    camera.x -= (now[0] - before[0]) / share / camera.scale;
    camera.y -= (now[1] - before[1]) / share / camera.scale;
    if (others.length === 1) {
      const [other] = others, middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
      const spread = (point) => Math.max(20, Math.hypot(point[0] - other[0], point[1] - other[1]));
      zoomBy(spread(now) / spread(before), ...middle);
    } else moved();
  });
  const release = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    map.classList.remove("dragging");
    if (event.type !== "pointerup" || pointers.size || travelled > 4 || !state.outlines) return;
    const reach = (event.pointerType === "mouse" ? 4 : 12) / camera.scale;
    if (count) onSelect(buildingAt(...toWorld(...local(event)), reach));
  };
  map.addEventListener("pointerup", release);
  map.addEventListener("pointercancel", release);
  map.addEventListener("pointerleave", () => {
    tooltip.hidden = true;
    cursor.textContent = "";
    if (state.hovered >= 0) { state.hovered = -1; redraw("overlay"); }
  });
  map.addEventListener("dblclick", (event) => {
    if (!event.target.closest("button, #handle, #times")) zoomBy(event.shiftKey ? 0.5 : 2, ...local(event));
  });
  map.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 240 : 1;
    zoomBy(Math.exp(-Math.max(-240, Math.min(240, event.deltaY * lines)) * 0.0022), ...local(event));
  }, { passive: false });
  map.addEventListener("keydown", (event) => {
    if (event.target !== map) return;
    const step = 80 / camera.scale;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (moves[event.key]) {
      camera.x += moves[event.key][0];
      camera.y += moves[event.key][1];
      moved();
    } else if (event.key === "+" || event.key === "=") zoomBy(1.5);
    else if (event.key === "-") zoomBy(1 / 1.5);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  });
  handle.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    handle.focus({ preventScroll: true });
    handle.setPointerCapture(event.pointerId);
  });
  handle.addEventListener("pointermove", (event) => {
    if (handle.hasPointerCapture(event.pointerId)) setSwipe(local(event)[0] / screen_.width);
  });
  handle.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.1 : 0.02;
    const goal = { ArrowLeft: state.swipe - step, ArrowRight: state.swipe + step, Home: 0, End: 1 }[event.key];
    if (goal === undefined) return;
    setSwipe(goal);
    event.preventDefault();
  });
  let first = true;
  new ResizeObserver(() => {
    const whole = first || Math.abs(camera.scale - bounds().whole * 0.97) < 1e-9;
    first = false;
    Object.assign(screen_, { width: map.clientWidth, height: map.clientHeight, ratio: window.devicePixelRatio || 1 });
    for (const { canvas } of [base, overlay]) {
      canvas.width = Math.round(screen_.width * screen_.ratio);
      canvas.height = Math.round(screen_.height * screen_.ratio);
    }
    placeLabels();
    if (whole) fit(); else moved();
  }).observe(map);
}
