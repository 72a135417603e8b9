// What people said so far: followed as it comes, drawn on the map, counted, and what it makes of the totals.
import { $, ask, element, wait } from "./api.js";

const TOTALS_SECONDS = 2;
const POLL_SECONDS = 10;

export class Answers {
  // changed: called with the id of each building that somebody said something of
  constructor(told, view, { words, changed, failed }) {
    Object.assign(this, { told, view, words, changed, failed });
    this.known = new Map();
    this.version = 0;
    this.asking = null;
    this.again = false;
  }

  follow() {
    $("answered").hidden = false;
    const stream = new EventSource(this.told.links.events);
    stream.addEventListener("answers", () => this.read());
    stream.addEventListener("error", () => {
      // one that the server refuses is closed for good: ask now and then instead
      if (stream.readyState === EventSource.CLOSED) this.poll();
    });
    addEventListener("online", () => this.read());
  }

  async poll() {
    for (;;) {
      await this.read();
      await wait(POLL_SECONDS);
    }
  }

  // one question at a time; what changes meanwhile is asked for next
  async read() {
    if (this.asking) {
      this.again = true;
      return this.asking;
    }
    this.asking = this.readNow().catch((error) => this.failed(error));
    await this.asking;
    this.asking = null;
    if (this.again) {
      this.again = false;
      return this.read();
    }
    return undefined;
  }

  async readNow() {
    const { version, answers, withdrawn } = await ask(`${this.told.links.answers}?since=${this.version}`);
    this.version = Number(version);
    for (const answer of answers) this.take(answer);
    for (const { building_id, row } of withdrawn) {
      this.known.delete(building_id);
      if (row !== null) this.view.say(row, null);
      this.changed(building_id);
    }
    this.count();
    this.total();
  }

  take(answer) {
    this.known.set(answer.building_id, answer);
    if (answer.row !== null) this.view.say(answer.row, answer.verdict);
    this.changed(answer.building_id);
  }

  // of each building that is in the map: its row, and what was said
  rows() {
    return [...this.known.values()].filter(({ row }) => row !== null).map(({ row, verdict }) => [row, verdict]);
  }

  has(id) {
    return this.known.has(id);
  }

  count() {
    const counts = new Map();
    for (const { verdict } of this.known.values()) counts.set(verdict, (counts.get(verdict) ?? 0) + 1);
    const parts = [...counts].map(([verdict, count]) => `${count.toLocaleString()} ${this.words(verdict).toLowerCase()}`);
    $("count").textContent = `${this.known.size.toLocaleString()} of ${this.told.total.toLocaleString()} buildings${parts.length ? `: ${parts.join(", ")}` : ""}`;
  }

  // at most every few seconds: it takes the server a moment
  async total() {
    if (this.totalling) {
      this.stale = true;
      return;
    }
    this.totalling = true;
    try {
      const tree = await ask(this.told.links.totals);
      $("totals").replaceChildren(...tree.words.map((line) => element("li", line)));
    } catch (error) {
      $("totals").replaceChildren(element("li", error.message));
    }
    await wait(TOTALS_SECONDS);
    this.totalling = false;
    if (this.stale) {
      this.stale = false;
      this.total();
    }
  }
}
