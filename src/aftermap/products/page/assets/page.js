// What every page has: heading, warnings, legend, buttons and keys. Text only ever enters as text.
const find = (id) => document.getElementById(id);
const number = (value, digits = 0) => value.toLocaleString("en", { maximumFractionDigits: digits });

function element(name, content = "", options = {}) {
  const { style, ...rest } = options;
  const made = Object.assign(document.createElement(name), rest);
  if (style) Object.assign(made.style, style);
  if (Array.isArray(content)) made.append(...content); else made.textContent = content;
  return made;
}

function fold(folded) {
  find("panel").classList.toggle("folded", folded);
  find("fold").setAttribute("aria-expanded", String(!folded));
}

function swatch({ colour, assessed }) {
  return element("span", "", { className: assessed ? "swatch" : "swatch open", style: assessed ? { background: colour } : { borderColor: colour } });
}

function buildLegend(isShown, onChange) {
  for (const [kind, entry] of classes.entries()) {
    const box = element("input", "", { type: "checkbox", checked: isShown(kind) });
    box.dataset.kind = kind;
    box.addEventListener("change", () => onChange(kind, box.checked));
    find("legend").append(element("label", [
      box, swatch(entry), element("span", entry.label, { className: "name" }),
      element("span", entry.amount, { className: "count" }), element("span", entry.percent, { className: "share" }),
    ]));
    if (entry.share) find("shares").append(element("i", "", { style: { flexGrow: entry.share, background: entry.colour } }));
  }
  const [amount, text] = data.words.headline;
  find("headline").append(...(amount ? [element("b", amount), text] : [text]));
}

// `layer` is what lies over the pictures: its name, its key, how opaque it is, and what to do when that changes.
function start(layer, keys = {}) {
  document.querySelectorAll("[data-with=objects]").forEach((part) => { if (!data.objects) part.remove(); });
  find("title").textContent = data.title;
  find("model").textContent = data.model;
  find("heading").textContent = data.words.heading;
  for (const warning of data.warnings) find("warnings").append(element("p", warning));
  find("warnings").hidden = !data.warnings.length;
  for (const line of data.about) find("about").append(element("p", line));
  if (grid.north !== null) {
    find("north").hidden = false;
    find("north").style.transform = `rotate(${grid.north}deg)`;
  }
  const [left, right] = data.words.views;
  for (const [i, mode] of ["pre", "post"].entries()) {
    const button = document.querySelector(`.modes button[data-mode=${mode}]`), label = data.words.labels[i];
    Object.assign(button, { textContent: data.words.views[i], title: `${label} (key ${2 * i + 1})` });
    find(`label-${mode}`).textContent = label;
  }
  find("handle").setAttribute("aria-label", `Divider between ${left} and ${right}`);
  for (const button of document.querySelectorAll(".modes button")) button.addEventListener("click", () => setMode(button.dataset.mode));
  find("fold").addEventListener("click", () => fold(!find("panel").classList.contains("folded")));
  find("zoom-in").addEventListener("click", () => zoomBy(1.6));
  find("zoom-out").addEventListener("click", () => zoomBy(1 / 1.6));
  find("zoom-fit").addEventListener("click", fit);
  const setFill = (share) => {
    state.fill = share;
    find("fill-value").textContent = percent(share);
    layer.changed();
  };
  const setOutlines = (on) => {
    state.outlines = find("outlines").checked = on;
    layer.changed();
  };
  find("fill-name").textContent = layer.fill;
  find("fill").value = 100 * layer.opacity;
  find("outlines-name").textContent = layer.name;
  find("outlines-key").textContent = layer.key.toUpperCase();
  find("fill").addEventListener("input", (event) => setFill(event.target.value / 100));
  find("outlines").addEventListener("change", (event) => setOutlines(event.target.checked));
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea") && event.target.type !== "checkbox" || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = {
      1: () => setMode("pre"), 2: () => setMode("swipe"), 3: () => setMode("post"), [layer.key]: () => setOutlines(!state.outlines), ...keys,
    };
    const run = all[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!run) return;
    event.preventDefault();
    run();
  });
  listenToMap();
  setMode(data.words.mode);
  setSwipe(0.5);
  setFill(layer.opacity);
}
