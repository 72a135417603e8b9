// Areas that the map was counted by, coloured between the pictures and the buildings. Text only ever enters as text.
const areaSets = data.areas.map((set) => ({
  ...set,
  shapes: set.paths.map((rings) => {
    const shape = new Path2D();
    for (const ring of rings) {
      shape.moveTo(ring[0], ring[1]);
      for (let i = 2; i < ring.length; i += 2) shape.lineTo(ring[i], ring[i + 1]);
      shape.closePath();
    }
    return shape;
  }),
}));
const areaState = { set: null, metric: null, last: 0 };

drawAreas = (context) => {
  const { set, metric } = areaState;
  if (!set) return;
  const scale = camera.scale, k = scale * screen_.ratio;
  context.setTransform(k, 0, 0, k, (screen_.width / 2 - camera.x * scale) * screen_.ratio, (screen_.height / 2 - camera.y * scale) * screen_.ratio);
  context.lineWidth = 1.2 / scale;
  context.strokeStyle = "#17212b";
  for (const [row, shape] of set.shapes.entries()) {
    const step = metric.step[row];
    context.globalAlpha = 0.6;
    context.fillStyle = step < metric.steps.length ? metric.steps[step].colour : set.unknown;
    context.fill(shape, "evenodd");
    context.globalAlpha = 0.7;
    context.stroke(shape);
  }
  context.globalAlpha = 1;
};

function areaAt(x, y) {
  const { set, metric } = areaState;
  if (!set) return "";
  base.save();
  base.setTransform(1, 0, 0, 1, 0, 0);
  const row = set.shapes.findIndex((shape) => base.isPointInPath(shape, x, y, "evenodd"));
  base.restore();
  if (row < 0) return "";
  const value = metric.values[row];
  const said = value === null ? metric.unknown : metric.unit === "%" ? `${(100 * value).toFixed(1)} %`
    : `${number(value, 1)}${metric.unit ? ` ${metric.unit}` : ""}`;
  return `${set.names[row]} · ${metric.label}: ${said}`;
}

function showAreas(at, column = 0) {
  const set = areaSets[at] ?? null, chosen = set ? set.metrics[column] : null;
  Object.assign(areaState, { set, metric: chosen });
  if (set) areaState.last = at;
  find("areas-set").value = set ? at : -1;
  find("areas-metric").hidden = find("areas-legend").hidden = !set;
  find("areas-metric").replaceChildren(...(set ? set.metrics.map(({ label }, i) => element("option", label, { value: i })) : []));
  find("areas-metric").value = column;
  find("areas-legend").replaceChildren();
  if (set) {
    const tally_ = new Array(chosen.steps.length + 1).fill(0);
    for (const step of chosen.step) tally_[step]++;
    for (const [i, { colour, label }] of [...chosen.steps, { colour: set.unknown, label: chosen.unknown }].entries()) {
      if (i === chosen.steps.length && !tally_[i]) continue;
      find("areas-legend").append(element("li", [
        element("span", "", { className: "swatch edged", style: { background: colour } }), element("span", label, { className: "name" }),
        element("span", number(tally_[i]), { className: "count" }),
      ]));
    }
  }
  redraw("base");
}

find("areas").hidden = false;
find("areas-set").append(element("option", "none", { value: -1 }), ...areaSets.map(({ title }, i) => element("option", title, { value: i })));
find("areas-set").addEventListener("change", (event) => showAreas(Number(event.target.value)));
find("areas-metric").addEventListener("change", (event) => showAreas(areaSets.indexOf(areaState.set), Number(event.target.value)));
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea") && event.target.type !== "checkbox" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key.toLowerCase() === "a") showAreas(areaState.set ? -1 : areaState.last);
});
const toldOfBuildings = told;
told = (x, y) => toldOfBuildings(x, y) || areaAt(x, y);
showAreas(-1);
Object.defineProperties(window.aftermap, Object.getOwnPropertyDescriptors({ showAreas, areaAt }));
