// The panel: legend with filters, the list of buildings, the attributes of one. Text only ever enters as text.
const PAGE = 60;
let listed = [], pageEnd = PAGE;

function swatch(kind) {
  const open = !classes[kind].assessed;
  const style = open ? { borderColor: classes[kind].colour } : { background: classes[kind].colour };
  return element("span", "", { className: open ? "swatch open" : "swatch", style });
}

function buildLegend() {
  const assessed = data.summary.assessed;
  for (const [kind, { label, assessed: isAssessed }] of classes.entries()) {
    if (!isAssessed && !columns.damage && !tally.all[kind]) continue;  // the last one
    const box = element("input", "", { type: "checkbox", checked: true });
    box.dataset.kind = kind;
    box.addEventListener("change", () => {
      if (box.checked) filter.classes.add(kind); else filter.classes.delete(kind);
      refresh();
    });
    const share = isAssessed && assessed ? `${number(100 * tally.all[kind] / assessed, 1)} %` : "";
    find("legend").append(element("label", [
      box, swatch(kind), element("span", label, { className: "name" }),
      element("span", "", { className: "count" }), element("span", share, { className: "share" }),
    ]));
    if (isAssessed && tally.all[kind]) {
      find("shares").append(element("i", "", { style: { flexGrow: tally.all[kind], background: classes[kind].colour } }));
    }
  }
  const [amount, text] = data.words.headline;
  find("headline").append(...(amount ? [element("b", amount), text] : [text]));
}

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
const severity = (b) => classes[damageOf[b]].assessed ? damageOf[b] : -1;

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
      swatch(damageOf[b]), element("span", ids[b], { className: "id" }),
      element("span", sure || classes[damageOf[b]].label, { className: "what" }),
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
const BARS = data.words.bars;
const SEPARATE = new Set(["building_id", "damage", "reason", "lon", "lat", ...BARS]);

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
  const kind = classes[damageOf[b]];
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
  if (BARS.some((name) => columns[name][b] !== null)) {
    details.append(element("div", BARS.flatMap((name, i) => {
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

function setOutlines(on) {
  state.outlines = find("outlines").checked = on;
  redraw("overlay");
}

function listenToPanel() {
  find("confidence").addEventListener("input", (event) => {
    filter.confidence = event.target.value / 100;
    find("confidence-value").textContent = percent(filter.confidence);
    refresh();
  });
  find("fill").addEventListener("input", (event) => {
    state.fill = event.target.value / 100;
    find("fill-value").textContent = percent(state.fill);
    redraw("overlay");
  });
  find("outlines").addEventListener("change", (event) => setOutlines(event.target.checked));
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
  find("fold").addEventListener("click", () => fold(!find("panel").classList.contains("folded")));
  find("zoom-in").addEventListener("click", () => zoomBy(1.6));
  find("zoom-out").addEventListener("click", () => zoomBy(1 / 1.6));
  find("zoom-fit").addEventListener("click", fit);
  for (const button of document.querySelectorAll(".modes button")) button.addEventListener("click", () => setMode(button.dataset.mode));
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select") && event.target.type !== "checkbox" || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      1: () => setMode("pre"), 2: () => setMode("swipe"), 3: () => setMode("post"), n: () => step(1), p: () => step(-1),
      b: () => setOutlines(!state.outlines), z: () => state.selected >= 0 && zoomTo(state.selected), Escape: () => select(-1),
    };
    keys[event.key.length === 1 ? event.key.toLowerCase() : event.key]?.();
  });
}

function nameViews() {
  const [left, right] = data.words.views;
  for (const [mode, name, title] of [["pre", left, `${left} (key 1)`], ["post", right, `${right} (key 3)`]]) {
    const button = document.querySelector(`.modes button[data-mode=${mode}]`);
    Object.assign(button, { textContent: name, title });
    find(`label-${mode}`).textContent = name;
  }
  if (!columns.damage) {
    document.querySelector(".modes").setAttribute("aria-label", "Which layer is shown");
    find("handle").setAttribute("aria-label", `Divider between ${left} and ${right}`);
  }
  find("heading").textContent = data.words.heading;
  for (const option of [...find("sort").options]) if (!data.words.sorts.includes(option.value)) option.remove();
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
onSelect = (b) => select(b);
nameViews();
buildLegend();
refresh();
listenToPanel();
listenToMap();
setMode(data.words.mode);
setSwipe(0.5);
// A small window into the page for scripts and tests.
window.aftermap = {
  ready: loadImages(),
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
