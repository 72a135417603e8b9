// The panel: legend with filters, the list of buildings, the attributes of one. Text only ever enters as text.
const PAGE = 60;
let listed = [], pageEnd = PAGE;

function refresh() {
  applyFilter();
  for (const [kind, label] of [...find("legend").children].entries()) {
    const all = tally.all[kind], now = tally.shown[kind];
    label.querySelector(".count").textContent = now === all ? number(all) : `${number(now)} / ${number(all)}`;
  }
  find("visible").textContent = `${number(tally.total)} of ${number(count)} buildings shown`;
  fillList();
  redraw("overlay");
}

// Orders of the list: value of a building to sort by, and whether the largest comes first. Nothing known always comes last.
const collator = new Intl.Collator("en", { numeric: true });
const severity = (b) => classes[kindOf[b]].assessed ? kindOf[b] : null;
const ORDERS = { doubt: { value: confidenceOf, down: false, column: "confidence" } };
if (classes.some(({ name }) => name === "destroyed")) ORDERS.damage = { value: severity, down: true, column: "confidence" };
for (const name of Object.keys(columns)) ORDERS[`column ${name}`] = { value: columns[name], down: name === "area_m2", column: name };
const sorted = new Map();
let down = false;

function order(name) {
  const key = `${down} ${name}`;
  if (!sorted.has(key)) {
    const values = Array.from({ length: count }, (_, b) => ORDERS[name].value(b));
    const sure = Array.from({ length: count }, (_, b) => confidenceOf(b) ?? 2);
    const compare = (a, b) => {
      const [x, y] = [values[a], values[b]], [noX, noY] = [x === null || x === "", y === null || y === ""];
      if (noX || noY) return noX - noY;
      const rise = typeof x === "number" && typeof y === "number" ? x - y : collator.compare(String(x), String(y));
      return (down ? -rise : rise) || (name === "damage" ? sure[b] - sure[a] : 0) || a - b;
    };
    sorted.set(key, Uint32Array.from({ length: count }, (_, b) => b).sort(compare));
  }
  return sorted.get(key);
}

function fillList() {
  const wanted = find("search").value.trim().toLowerCase();
  listed = [];
  for (const b of order(find("sort").value)) if (shown[b] && (!wanted || idOf(b).toLowerCase().includes(wanted))) listed.push(b);
  pageEnd = PAGE;
  find("list").replaceChildren();
  appendRows(0, pageEnd);
  if (!listed.length) find("list").append(element("li", count ? "No building fits." : "No buildings on this map.", { className: "none" }));
}

function appendRows(from, to) {
  const { column } = ORDERS[find("sort").value];
  const rows = listed.slice(from, to).map((b) => {
    const value = columns[column](b), told = column === "building_id" ? confidenceOf(b) : value;
    const what = told === null || told === "" ? classes[kindOf[b]].label : describe(column === "building_id" ? "confidence" : column, told);
    const button = element("button", [
      swatch(classes[kindOf[b]]), element("span", idOf(b), { className: "id" }), element("span", what, { className: "what" }),
    ], { type: "button" });
    button.dataset.building = b;
    button.setAttribute("aria-current", String(b === state.selected));
    return element("li", [button]);
  });
  find("list").append(...rows);
  find("more").hidden = listed.length <= to;
}

function chooseOrder() {
  ({ down } = ORDERS[find("sort").value]);
  showDirection();
}

function showDirection() {
  find("direction").textContent = down ? "↓" : "↑";
  find("direction").setAttribute("aria-label", down ? "Largest first; change to smallest first" : "Smallest first; change to largest first");
  fillList();
}

const LABELS = {
  building_id: "Id", damage: "Damage", reason: "Reason", lon: "Longitude", lat: "Latitude", p_building: "Mean p(building)",
  p_no_damage: "p(no damage)", p_minor: "p(minor)", p_major: "p(major)", p_destroyed: "p(destroyed)", image: "Image", confidence: "Confidence", seen: "Share seen", area_m2: "Area", mode: "Mode", pre_image: "Image before",
  post_image: "Image after", model: "Model", model_version: "Model version", model_sha256: "Model hash",
  agreement: "Outcome", grade: "Source says", truth: "In classes of the map", marks: "Marks on it", distance_m: "Mark lies off", p_damaged: "p(damaged)",
  disagreement: "Sources differ", entropy: "Openness", sources: "Sources", changed_on: "Last change", destroyed_since: "Destroyed since",
  newly_destroyed: "Newly destroyed", assessed: "Times assessed", contradicted: "Maps contradict",
};
const SEPARATE = new Set(["building_id", "damage", "reason", "lon", "lat", ...bars]);

function describe(name, value) {
  if (value === null || value === "") return "–";
  if (name === "confidence" || name === "seen" || name === "disagreement" || name.startsWith("p_")) return percent(value);
  if (name === "distance_m") return `${number(value, 1)} m`;
  if (name === "area_m2") return `${number(value, 1)} m²`;
  return typeof value === "number" ? number(value, 6) : String(value);
}

function select(b, zoom = false) {
  state.selected = b;
  for (const button of find("list").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(Number(button.dataset.building) === b));
  }
  const details = find("details");
  details.hidden = b < 0;
  details.replaceChildren();
  redraw("overlay");
  if (b < 0) return;
  const kind = classes[kindOf[b]];
  const action = (label, title, run) => {
    const button = element("button", label, { type: "button", title, onclick: run });
    button.setAttribute("aria-label", title);
    return button;
  };
  details.append(
    element("div", [
      element("strong", idOf(b)),
      action("‹", "Previous in the list (P)", () => step(-1)), action("›", "Next in the list (N)", () => step(1)),
      action("Zoom", "Zoom to this building (Z)", () => zoomTo(b)), action("×", "Close (Escape)", () => select(-1)),
    ], { className: "top" }),
    element("span", kind.label, { className: "chip", style: { background: kind.colour, color: kind.ink } }),
  );
  if (columns.reason?.(b)) details.append(element("p", `${kind.assessed ? "Note" : "Reason"}: ${columns.reason(b)}`, { className: "reason" }));
  if (bars.some((name) => columns[name](b) !== null)) {
    details.append(element("div", bars.flatMap((name, i) => {
      const p = columns[name](b) ?? 0;
      const bar = element("i", "", { style: { width: `${p * 100}%`, background: classes[i].colour } });
      return [element("span", classes[i].label), element("div", [bar]), element("output", `${(p * 100).toFixed(1)} %`)];
    }), { className: "bars" }));
  }
  const terms = [];
  for (const name of Object.keys(columns)) {
    if (!SEPARATE.has(name)) terms.push(element("dt", LABELS[name] ?? name), element("dd", describe(name, columns[name](b))));
  }
  const place = columns.lon(b) === null ? null : [columns.lon(b), columns.lat(b)];
  if (place) terms.push(element("dt", "Position"), element("dd", lonLatText(place)));
  details.append(element("dl", terms));
  find("panel-body").scrollTop = 0;
  fold(false);
  if (zoom) zoomTo(b);
}

function step(by) {
  if (!listed.length) return;
  const at = listed.indexOf(state.selected);
  select(listed[at < 0 ? 0 : (at + by + listed.length) % listed.length], true);
}

function download() {
  const url = URL.createObjectURL(new Blob([JSON.stringify(toGeoJson())], { type: "application/geo+json" }));
  const link = element("a", "", { href: url, download: "buildings-shown.geojson" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function listenToPanel() {
  find("confidence").addEventListener("input", (event) => {
    filter.confidence = event.target.value / 100;
    find("confidence-value").textContent = percent(filter.confidence);
    refresh();
  });
  find("sort").addEventListener("change", chooseOrder);
  find("direction").addEventListener("click", () => { down = !down; showDirection(); });
  find("search").addEventListener("input", fillList);
  find("search").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") { event.preventDefault(); find("list").querySelector("button")?.focus(); }
    if (event.key === "Enter" && listed.length) {
      const wanted = event.target.value.trim().toLowerCase();
      select(listed.find((b) => idOf(b).toLowerCase() === wanted) ?? listed[0], true);
    }
  });
  find("list").addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key], row = event.target.closest("li");
    if (!by || !row) return;
    event.preventDefault();
    const next = by > 0 ? row.nextElementSibling : row.previousElementSibling;
    (next?.querySelector("button") ?? (by > 0 ? find("more") : find("search"))).focus();
  });
  find("list").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) select(Number(button.dataset.building), true);
  });
  find("more").addEventListener("click", () => { appendRows(pageEnd, pageEnd + PAGE); pageEnd += PAGE; });
  find("download").addEventListener("click", download);
}

const NAMES = { doubt: "Least confident", damage: "Most damaged" };
for (const [key, { column }] of Object.entries(ORDERS)) {
  find("sort").append(element("option", NAMES[key] ?? LABELS[column] ?? column, { value: key }));
}
onSelect = (b) => select(b);
told = (x, y) => {
  const b = state.outlines ? buildingAt(x, y, 4 / camera.scale) : -1;
  if (b !== state.hovered) {
    state.hovered = b;
    redraw("overlay");
  }
  map.classList.toggle("over", b >= 0);
  if (b < 0) return "";
  const sure = confidenceOf(b) === null ? "" : ` · ${percent(confidenceOf(b))}`;
  return `${idOf(b)} · ${classes[kindOf[b]].label}${sure}`;
};
buildLegend(() => true, (kind, on) => {
  if (on) filter.classes.add(kind); else filter.classes.delete(kind);
  refresh();
});
refresh();
chooseOrder();
listenToPanel();
const loaded = loadImages();
start({ name: "Show buildings", key: "b", fill: "Fill", opacity: 0.35, changed: () => redraw("overlay") }, {
  n: () => step(1), p: () => step(-1), z: () => state.selected >= 0 && zoomTo(state.selected), Escape: () => select(-1),
  "/": () => { fold(false); find("search").focus(); },
});
const numberOf = (id) => { for (let b = 0; b < count; b++) if (idOf(b) === id) return b; return -1; };
// A small window into the page for scripts and tests.
Object.defineProperties(window.aftermap, Object.getOwnPropertyDescriptors({
  count,
  get visible() { return tally.total; },
  get selected() { return state.selected < 0 ? null : idOf(state.selected); },
  get swipe() { return state.swipe; },
  get mode() { return state.mode; },
  get camera() { return { ...camera }; },
  slow: (rest) => { drawn.took = Infinity; settleMs = rest; },
  select: (id) => select(numberOf(id), true),
  screenOf: (id) => { const b = 4 * numberOf(id); return toScreen((boxes[b] + boxes[b + 2]) / 2, (boxes[b + 1] + boxes[b + 3]) / 2); },
  pixelOf: (layer, x, y) => [...{ base, overlay }[layer].getImageData(x * screen_.ratio, y * screen_.ratio, 1, 1).data],
  lonLat: (col, row) => lonLat(col * grid.stretch[0], row * grid.stretch[1]),
}));
await loaded;
