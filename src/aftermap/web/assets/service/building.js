// The building that is looked at: its row, what people said, and saying something oneself.
import { $, ask, element, memory, newKey, send, wait } from "./api.js";

export const VERDICTS = [
  { key: "1", name: "no-damage", label: "No damage" },
  { key: "2", name: "minor-damage", label: "Minor damage" },
  { key: "3", name: "major-damage", label: "Major damage" },
  { key: "4", name: "destroyed", label: "Destroyed" },
  { key: "0", name: "not-a-building", label: "Not a building" },
  { key: "u", name: "cannot-tell", label: "Cannot tell" },
];
const REASONS = ["", "cloud", "shadow", "no data", "outside", "misaligned", "other"];
const TRIES_SECONDS = [0.5, 1, 2, 4, 8];

export const words = (name) => VERDICTS.find((each) => each.name === name)?.label ?? name;

export class Building {
  // said: called with each answer of one's own that was kept
  constructor(told, me, view, { said, failed }) {
    Object.assign(this, { told, me, view, said, failed });
    this.id = null;
    this.shown = null;
    this.turn = this.latest = 0;
    $("answering").hidden = !told.may_review;
    $("name-label").hidden = me.tokens;
    $("name").value = memory.read("reviewer", "");
    $("name").addEventListener("change", () => memory.write("reviewer", $("name").value.trim()));
    $("reason").replaceChildren(...REASONS.map((reason) => element("option", reason || "none given", { value: reason })));
    $("close").addEventListener("click", () => this.close());
    $("take-back").addEventListener("click", () => this.takeBack());
    $("in-review").hidden = !told.may_review || !told.links.review;
    const colours = new Map(told.legend.map(({ name, colour }) => [name, colour]));
    for (const { key, name, label } of VERDICTS) {
      const button = element("button", "", { "aria-pressed": "false", "data-verdict": name, "aria-keyshortcuts": key });
      button.append(element("kbd", key, { "aria-hidden": "true" }), label);
      button.style.borderLeftColor = colours.get(name) ?? "";
      button.addEventListener("click", () => this.say(name));
      $("verdicts").append(button);
    }
  }

  async open(id) {
    this.id = id;
    this.shown = null;
    this.missed = false;
    this.view.choose(null);
    $("building").hidden = false;
    $("building").parentElement.scrollTop = 0; // on a phone it may be far above what was touched
    $("building-name").textContent = `Building ${id}`;
    $("conflict").hidden = true;
    this.tell("Loading");
    for (const part of ["mapped", "said", "columns"]) $(part).replaceChildren();
    this.press(null, true);
    this.since = performance.now();
    if (await this.read()) this.tell("");
    await this.again();
  }

  // an answer of the server that a later one overtook is not shown: what it lacks has been seen already
  async read() {
    const { id } = this;
    const turn = ++this.turn;
    try {
      const tree = await ask(this.address(id));
      if (this.id !== id) return null;
      if (turn < this.latest) return this.shown;
      this.show(tree, turn);
      return tree;
    } catch (error) {
      if (this.id === id) this.tell(error.message);
      return null;
    }
  }

  // somebody said something of it; while it is loading or one's own answer is under way it is looked at again after that
  async changed(id) {
    if (id !== this.id) return;
    if (!this.shown || this.sending) this.missed = true;
    else await this.read();
  }

  async again() {
    if (!this.missed || !this.shown || this.sending) return;
    this.missed = false;
    await this.read();
  }

  show(tree, turn = ++this.turn) {
    this.shown = tree;
    this.latest = turn;
    const row = tree.properties;
    this.view.choose(tree);
    const sure = row.confidence === null ? "" : `, confidence ${row.confidence.toFixed(2)}`;
    $("mapped").textContent = `The map says ${row.damage}${row.reason ? ` (${row.reason})` : ""}${sure}${row.area_m2 ? `, ${Math.round(row.area_m2)} m²` : ""}.`;
    $("said").replaceChildren(...tree.answers.map((answer) => {
      const why = [answer.reason, answer.note].filter(Boolean).join(": ");
      return element("li", `${answer.reviewer} says ${words(answer.verdict).toLowerCase()}${why ? ` (${why})` : ""}, ${new Date(answer.at).toLocaleString()}`);
    }));
    $("columns").replaceChildren(...Object.entries(row).map(([name, value]) => {
      const line = element("tr");
      line.append(element("th", name, { scope: "row" }), element("td", value ?? ""));
      return line;
    }));
    const mine = tree.answers.find((answer) => answer.reviewer === this.reviewer());
    this.press(mine?.verdict ?? null, false);
    $("take-back").hidden = !mine || !this.told.may_review;
    $("in-review").href = `${this.told.links.review}#building=${encodeURIComponent(tree.id)}`;
  }

  close() {
    this.id = this.shown = null;
    $("building").hidden = true;
    this.view.choose(null);
  }

  async say(verdict) {
    if (!this.ready()) return;
    const tree = {
      verdict,
      reason: verdict === "cannot-tell" ? $("reason").value : "",
      key: newKey(),
      seconds: Math.min(86_400, (performance.now() - this.since) / 1000),
      ...(this.me.tokens ? {} : { reviewer: this.reviewer() }),
    };
    await this.change(verdict, words(verdict), (path, tag) => send(path, "PUT", tree, tag));
  }

  // what one said oneself
  async takeBack() {
    if ($("take-back").hidden || !this.ready()) return;
    const who = this.me.tokens ? "" : `&reviewer=${encodeURIComponent(this.reviewer())}`;
    const key = newKey();
    await this.change(null, "Taking your answer back", (path, tag) => send(`${path}?key=${key}${who}`, "DELETE", undefined, tag));
  }

  ready() {
    if (!this.told.may_review || !this.id) return false;
    if (this.shown && this.sending !== this.id) return true;
    this.tell(this.shown ? "Still saving" : "Still loading: answer when you see it");
    return false;
  }

  // verdict: null takes one's answer back
  async change(verdict, what, ask) {
    const { id, version } = this.shown;
    this.sending = id;
    $("conflict").hidden = true;
    this.press(verdict, true);
    this.tell("Saving");
    try {
      const tree = await this.keep(id, version, ask);
      const answer = tree.answers.find((each) => each.reviewer === this.reviewer());
      if (verdict !== null) this.said({ ...answer, verdict, row: tree.row });
      else this.said(null);
      if (this.id === id) {
        this.show(tree);
        this.tell(verdict === null ? "Taken back" : "Saved");
      }
    } catch (error) {
      await this.refused(id, what, error);
    } finally {
      if (this.sending === id) this.sending = null;
      await this.again();
    }
  }

  // again and again with one key, so that an answer whose confirmation was lost counts once
  async keep(id, version, ask) {
    for (const seconds of [...TRIES_SECONDS, null]) {
      try {
        return await ask(`${this.told.links.answers}/${encodeURIComponent(id)}`, { "if-match": `"${version}"` });
      } catch (error) {
        const passes = error.status === undefined || error.status === 429 || error.status >= 500;
        if (!passes || seconds === null) throw error;
        if (this.id === id) this.tell("Not saved yet: trying again");
        await wait(seconds);
      }
    }
    return null;
  }

  async refused(id, what, error) {
    if (error.status !== 412) {
      this.failed(new Error(`${what} for building ${id} was not saved: ${error.message}`));
      if (this.id === id) {
        this.show(this.shown);
        this.tell("");
      }
      return;
    }
    const lost = `Your answer (${what.toLowerCase()}) was not saved`;
    if (this.id !== id) {
      this.failed(new Error(`Somebody answered building ${id} meanwhile. ${lost}.`));
      return;
    }
    const tree = await this.read();
    const last = tree?.answers.at(-1);
    $("conflict").textContent = `${last ? `${last.reviewer} said ${words(last.verdict).toLowerCase()}` : "An answer was taken back"} meanwhile. ${lost}: give it again if you still think so.`;
    $("conflict").hidden = false;
    this.tell("");
  }

  press(verdict, still) {
    for (const button of $("verdicts").children) {
      button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
      button.disabled = still;
    }
  }

  reviewer() {
    return this.me.tokens ? this.me.name : $("name").value.trim() || "local";
  }

  address(id) {
    return `/api/maps/${this.told.id}/buildings/${encodeURIComponent(id)}`;
  }

  tell(text) {
    $("saving").textContent = text;
  }
}
