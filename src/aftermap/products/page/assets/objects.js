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

const ORDERS = {
  doubt: (a, b) => (confidenceOf[a] ?? 2) - (confidenceOf[b] ?? 2),
  damage: (a, b) => severity(b) - severity(a) || (confidenceOf[b] ?? 0) - (confidenceOf[a] ?? 0),
  area: (a, b) => (columns.area_m2[b] ?? 0) - (columns.area_m2[a] ?? 0),
  id: (a, b) => collator.compare(ids[a], ids[b]),
};
const collator = new Intl.Collator("en", { numeric: true });
const severity = (b) => classes[kindOf[b]].assessed ? kindOf[b] : -1;

function fillList() {
  const wanted = find("search").value.trim().toLowerCase();
  listed = [];
  for (let b = 0; b < count; b++) if (shown[b] && (!wanted || ids[b].toLowerCase().includes(wanted))) listed.push(b);
  listed.sort(ORDERS[find("sort").value]);
  pageEnd = PAGE;
  find("list").replaceChildren();
  appendRows(0, pageEnd);
  if (!listed.length) find("list").append(element("li", count ? "No building fits." : "No buildings on this map.", { className: "none" }));
}

function appendRows(from, to) {
  const rows = listed.slice(from, to).map((b) => {
    const sure = confidenceOf[b] === null ? "" : percent(confidenceOf[b]);
    const button = element("button", [
      swatch(classes[kindOf[b]]), element("span", ids[b], { className: "id" }),
      element("span", sure || classes[kindOf[b]].label, { className: "what" }),
    ], { type: "button" });
    button.dataset.building = b;
    button.setAttribute("aria-current", String(b === state.selected));
    return element("li", [button]);
  });
  find("list").append(...rows);
  find("more").hidden = listed.length <= to;
}

const LABELS = {
  p_building: "Mean p(building)", image: "Image", confidence: "Confidence", seen: "Share seen", area_m2: "Area", mode: "Mode", pre_images: "Images before",
  post_images: "Images after", model: "Model", model_version: "Model version", model_sha256: "Model hash",
};
const SEPARATE = new Set(["building_id", "damage", "reason", "lon", "lat", ...bars]);

function describe(name, value) {
  if (value === null || value === "") return "–";
  if (name === "confidence" || name === "seen" || name === "p_building") return percent(value);
  if (name === "area_m2") return `${number(value, 1)} m²`;
  return typeof value === "number" ? number(value, 4) : String(value);
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
      element("strong", ids[b]),
      action("‹", "Previous in the list (P)", () => step(-1)), action("›", "Next in the list (N)", () => step(1)),
      action("Zoom", "Zoom to this building (Z)", () => zoomTo(b)), action("×", "Close (Escape)", () => select(-1)),
    ], { className: "top" }),
    element("span", kind.label, { className: "chip", style: { background: kind.colour, color: kind.ink } }),
  );
  if (columns.reason?.[b]) details.append(element("p", `${kind.assessed ? "Note" : "Reason"}: ${columns.reason[b]}`, { className: "reason" }));
  if (bars.some((name) => columns[name][b] !== null)) {
    details.append(element("div", bars.flatMap((name, i) => {
      const p = columns[name][b] ?? 0;
      const bar = element("i", "", { style: { width: `${p * 100}%`, background: classes[i].colour } });
      return [element("span", classes[i].label), element("div", [bar]), element("output", `${(p * 100).toFixed(1)} %`)];
    }), { className: "bars" }));
  }
  const terms = [];
  for (const name of Object.keys(columns)) {
    if (!SEPARATE.has(name)) terms.push(element("dt", LABELS[name] ?? name), element("dd", describe(name, columns[name][b])));
  }
  const place = columns.lon[b] === null ? null : [columns.lon[b], columns.lat[b]];
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
  find("sort").addEventListener("change", fillList);
  find("search").addEventListener("input", fillList);
  find("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && listed.length) {
      const wanted = event.target.value.trim().toLowerCase();
      select(listed.find((b) => ids[b].toLowerCase() === wanted) ?? listed[0], true);
    }
  });
  find("list").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) select(Number(button.dataset.building), true);
  });
  find("more").addEventListener("click", () => { appendRows(pageEnd, pageEnd + PAGE); pageEnd += PAGE; });
  find("download").addEventListener("click", download);
}

if (!classes.some((entry) => entry.name === "destroyed")) find("sort").querySelector("[value=damage]").remove();
onSelect = (b) => select(b);
told = (x, y) => {
  const b = state.outlines ? buildingAt(x, y, 4 / camera.scale) : -1;
  if (b !== state.hovered) {
    state.hovered = b;
    redraw("overlay");
  }
  map.classList.toggle("over", b >= 0);
  if (b < 0) return "";
  const sure = confidenceOf[b] === null ? "" : ` · ${percent(confidenceOf[b])}`;
  return `${ids[b]} · ${classes[kindOf[b]].label}${sure}`;
};
buildLegend(() => true, (kind, on) => {
  if (on) filter.classes.add(kind); else filter.classes.delete(kind);
  refresh();
});
refresh();
listenToPanel();
const loaded = loadImages();
start({ name: "Show buildings", key: "b", fill: "Fill", opacity: 0.35, changed: () => redraw("overlay") }, {
  n: () => step(1), p: () => step(-1), z: () => state.selected >= 0 && zoomTo(state.selected), Escape: () => select(-1),
});
// A small window into the page for scripts and tests.
window.aftermap = {
  ready: loaded,
  count,
  get visible() { return tally.total; },
  get selected() { return state.selected < 0 ? null : ids[state.selected]; },
  get swipe() { return state.swipe; },
  get mode() { return state.mode; },
  get camera() { return { ...camera }; },
  select: (id) => select(ids.indexOf(id), true),
  screenOf: (id) => { const b = 4 * ids.indexOf(id); return toScreen((boxes[b] + boxes[b + 2]) / 2, (boxes[b + 1] + boxes[b + 3]) / 2); },
  pixelOf: (layer, x, y) => [...{ base, overlay }[layer].getImageData(x * screen_.ratio, y * screen_.ratio, 1, 1).data],
  lonLat: (col, row) => lonLat(col * grid.stretch[0], row * grid.stretch[1]),
};
