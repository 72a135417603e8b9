"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const make = (name, attributes, parent) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (parent) parent.append(element);
    return element;
  };
  const text = (tag, words, parent, kind) => {
    const element = document.createElement(tag);
    element.textContent = words;
    if (kind) element.className = kind;
    if (parent) parent.append(element);
    return element;
  };
  const TITLES = {
    area_id: "Area", name: "Name", pcode: "P-code", buildings: "Buildings", assessed: "Assessed", damaged: "Damaged",
    damaged_share: "Damaged share", no_damage: "No damage", minor_damage: "Minor", major_damage: "Major",
    destroyed: "Destroyed", not_assessed: "Not assessable", not_surveyed: "Not surveyed", built_m2: "Built m²", damaged_m2: "Damaged m²",
    not_destroyed: "Not destroyed", destroyed_share: "Destroyed share", destroyed_m2: "Destroyed m²",
    area_km2: "Area km²", surveyed_share: "Surveyed", damaged_estimate: "Damaged, estimated", damaged_low: "from", damaged_high: "to", estimate_kind: "Estimate is",
    answers: "Answers", sources: "Sources", destroyed_estimate: "Destroyed, estimated",
  };
  const shares = new Set(data.metrics.filter((metric) => metric.unit === "%").map((metric) => metric.column));
  shares.add("damaged_share").add("surveyed_share");
  const heading = (column) => TITLES[column] || data.titles[column] || column;
  const place = new Map(data.columns.map((name, index) => [name, index]));
  const count = data.paths.length;
  const value = (column, row) => data.rows[place.get(column)][row];
  const isText = (column) => ["area_id", "name", "pcode", "estimate_kind"].includes(column);
  const said = (column, row) => {
    const found = value(column, row);
    if (found === null) return isText(column) ? "" : "–";
    if (isText(column)) return found;
    if (shares.has(column)) return `${(100 * found).toFixed(1)} %`;
    return found.toLocaleString("en", { maximumFractionDigits: column === "area_km2" ? 3 : 0 });
  };
  const called = (row) => {
    const name = value("area_id", row);
    const also = place.has("name") ? value("name", row) : null;
    return also && also !== name ? `${also} (${name})` : name;
  };

  $("title").textContent = data.title;
  $("areas").textContent = data.areas;
  data.facts.forEach((line) => text("p", line, $("facts")));
  data.metrics.forEach((metric, index) => {
    const option = text("option", metric.label, $("metric"));
    option.value = index;
  });

  const svg = $("map");
  svg.setAttribute("viewBox", `0 0 ${data.width} ${data.height}`);
  const shapes = data.paths.map((path, row) => {
    if (path === null) return null;
    const shape = make("path", { d: path, class: "area", "fill-rule": "evenodd", tabindex: count > 400 ? -1 : 0 }, svg);
    shape.setAttribute("role", "button");
    shape.addEventListener("pointermove", (event) => tip(row, event));
    shape.addEventListener("pointerleave", () => ($("tooltip").hidden = true));
    shape.addEventListener("click", () => pick(row));
    shape.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { pick(row); event.preventDefault(); }
    });
    return shape;
  });
  const ground = make("path", { d: data.outline, class: "ground" }, svg);

  const nice = [1, 2, 5].flatMap((m) => [0, 1, 2, 3, 4, 5, 6].map((e) => m * 10 ** e)).sort((a, b) => a - b);
  const length = nice.filter((m) => m / data.metres < data.width * 0.25).at(-1) || 1;
  const bar = make("g", { class: "scale" }, svg);
  const [x, y, long] = [24, data.height - 22, length / data.metres];
  make("rect", { x: x - 10, y: y - 28, width: Math.max(long, 50) + 20, height: 38, rx: 3, class: "plate" }, bar);
  make("rect", { x: data.width - 46, y: 8, width: 40, height: 30, rx: 3, class: "plate" }, bar);
  make("line", { x1: x, y1: y, x2: x + long, y2: y }, bar);
  make("text", { x, y: y - 8 }, bar).textContent = length >= 1000 ? `${length / 1000} km` : `${length} m`;
  make("text", { x: data.width - 36, y: 28 }, bar).textContent = "N ↑";

  let metric = data.metrics[0];
  const tip = (row, event) => {
    const box = $("tooltip");
    const unit = metric.unit === "m²" ? " m²" : "";
    box.textContent = `${called(row)}: ${said(metric.column, row)}${unit}`;
    if (data.worst && place.has("assessed")) box.textContent += `; ${said(data.worst, row)} of ${said("assessed", row)} assessed buildings ${data.worst}`;
    box.hidden = false;
    const frame = svg.parentElement.getBoundingClientRect();
    const left = event.clientX - frame.left;
    box.style.left = `${Math.max(4, Math.min(left + 14, frame.width - 290))}px`;
    box.style.top = `${event.clientY - frame.top + 14}px`;
  };
  const paint = () => {
    metric = data.metrics[Number($("metric").value) || 0];
    const numbers = new Array(metric.steps.length + 1).fill(0);
    shapes.forEach((shape, row) => {
      if (shape === null) return;
      const step = metric.step[row];
      numbers[step] += 1;
      shape.setAttribute("fill", step < metric.steps.length ? metric.steps[step].colour : data.unknown);
      shape.setAttribute("aria-label", `${called(row)}: ${metric.label} ${said(metric.column, row)}`);
    });
    $("legend-title").textContent = metric.label + (metric.unit === "m²" ? " (m²)" : "");
    $("legend").replaceChildren();
    [...metric.steps, { colour: data.unknown, label: metric.unknown }].forEach((step, index) => {
      const line = document.createElement("li");
      const swatch = text("span", "", line, "swatch");
      swatch.style.background = step.colour;
      text("span", step.label, line);
      text("span", `${numbers[index]}`, line, "n").title = "areas";
      $("legend").append(line);
    });
  };

  const body = document.querySelector("#table tbody");
  const lines = Array.from({ length: count }, (_, row) => {
    const line = document.createElement("tr");
    data.columns.forEach((column) => text("td", said(column, row), line, isText(column) ? "text" : ""));
    line.addEventListener("click", () => pick(row));
    return line;
  });
  let order = { column: place.has(data.worst) ? data.worst : data.metrics[0].column, down: true };
  const sort = () => {
    const rows = [...lines.keys()].sort((a, b) => {
      const [one, two] = [value(order.column, a), value(order.column, b)];
      if (one === two) return a - b;
      if (one === null) return 1;
      if (two === null) return -1;
      return (one < two ? -1 : 1) * (order.down ? -1 : 1);
    });
    body.replaceChildren(...rows.map((row) => lines[row]));
  };
  const head = document.createElement("tr");
  data.columns.forEach((column) => {
    const cell = text("th", "", head, isText(column) ? "text" : "");
    cell.scope = "col";
    text("button", heading(column), cell).addEventListener("click", () => {
      order = { column, down: order.column === column ? !order.down : !isText(column) };
      sort();
    });
  });
  document.querySelector("#table thead").append(head);

  const pick = (row) => {
    shapes.forEach((shape) => shape && shape.classList.remove("picked"));
    lines.forEach((line) => line.classList.remove("picked"));
    lines[row].classList.add("picked");
    if (shapes[row]) { shapes[row].classList.add("picked"); svg.insertBefore(shapes[row], ground); }
    $("picked").replaceChildren();
    text("h2", called(row), $("picked"));
    const list = document.createElement("dl");
    data.columns.filter((column) => !["area_id", "name"].includes(column)).forEach((column) => {
      text("dt", heading(column), list);
      text("dd", said(column, row), list);
    });
    $("picked").append(list);
  };

  $("metric").addEventListener("change", paint);
  paint();
  sort();
})();
