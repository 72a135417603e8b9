// The legend, and what it lets through: by what people said, and where nobody said anything by what the map says.
import { $, ask, element } from "./api.js";
import { words } from "./building.js";

const SAID = ["not-a-building", "cannot-tell"];
const PAUSE_MS = 300;
const COUNT_MS = 2000;

// what a field says, brought into its range; one that is empty says `otherwise`
function number(id, otherwise, most) {
  const { value } = $(id);
  return value === "" ? otherwise : Math.min(Math.max(Number(value), 0), most);
}

export class Filter {
  constructor(told, view, answers, failed) {
    Object.assign(this, { told, view, answers, failed });
    this.amounts = new Map();
    this.timers = new Map();
    this.turn = 0;
    $("scale").textContent = told.scale;
    const rows = [...told.legend, ...SAID.map((name) => ({ name, colour: "" }))];
    this.boxes = rows.map((row) => this.row(row));
    this.fields = ["least", "most", "area"].map($);
    for (const field of this.fields) field.addEventListener("input", () => this.apply());
    $("all").addEventListener("click", () => {
      for (const box of this.boxes) box.checked = true;
      for (const field of this.fields) field.value = field.defaultValue;
      this.apply();
    });
  }

  row({ name, colour }) {
    const line = element("li");
    const label = element("label", "", { class: "check" });
    const box = element("input", "", { type: "checkbox", value: name });
    const swatch = element("span", "", { class: "swatch", "aria-hidden": "true" });
    const amount = element("span", (this.told.counts[name] ?? 0).toLocaleString(), { class: "amount" });
    box.checked = true;
    swatch.style.background = colour;
    label.append(box, swatch, SAID.includes(name) ? words(name).toLowerCase() : name, amount);
    line.append(label);
    line.hidden = SAID.includes(name); // until somebody says so
    box.addEventListener("change", () => this.apply());
    this.amounts.set(name, amount);
    $("legend").append(line);
    return box;
  }

  get chosen() {
    return {
      any: this.boxes.every((box) => box.checked),
      classes: this.boxes.filter((box) => box.checked).map((box) => box.value),
      confidence: [number("least", 0, 1), number("most", 1, 1)],
      area: number("area", 0, Infinity),
    };
  }

  apply() {
    this.show();
    this.soon("count", PAUSE_MS, () => this.count());
  }

  // an answer came or went: a map that shows everything has it in its colour already
  answered() {
    if (!this.chosen.any) this.soon("show", PAUSE_MS, () => this.show());
    this.soon("count", COUNT_MS, () => this.count());
  }

  show() {
    this.view.filter(this.chosen, this.answers.rows());
  }

  // the first of several calls decides when
  soon(name, milliseconds, work) {
    if (this.timers.has(name)) return;
    this.timers.set(name, setTimeout(() => {
      this.timers.delete(name);
      work();
    }, milliseconds));
  }

  async count() {
    const turn = ++this.turn;
    const { any, classes, confidence: [least, most], area } = this.chosen;
    const wanted = new URLSearchParams({ least, most, area });
    if (!any) wanted.set("damage", classes.join(","));
    try {
      const { left, total, counts } = await ask(`/api/maps/${this.told.id}/count?${wanted}`);
      if (turn !== this.turn) return;
      for (const [name, amount] of this.amounts) {
        amount.textContent = (counts[name] ?? 0).toLocaleString();
        amount.closest("li").hidden = SAID.includes(name) && !counts[name];
      }
      $("left").textContent = left === total ? "" : `${left.toLocaleString()} of ${total.toLocaleString()} buildings are left.`;
    } catch (error) {
      this.failed(error);
    }
  }
}
