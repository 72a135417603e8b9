// Buildings that wait with their pictures, and answers that are on their way. What is not confirmed stays here.

const AHEAD = 4;

class Queue {
  constructor(store, { changed, failed, told, sent }) {
    Object.assign(this, { store, changed, failed, told, sent });
    this.waiting = [];
    this.images = new Map();
    this.outbox = [];
    this.sending = false;
    this.filling = null;
    this.empty = false;
    this.held = new Set();
  }

  // answers that an earlier visit could not save
  restore() {
    this.box = `outbox-${this.store.reviewer}`;
    this.outbox = memory.read(this.box, []);
    if (this.outbox.length) this.flush();
  }

  async next(waits) {
    if (!this.waiting.length) {
      waits();
      await this.fill();
      if (!this.waiting.length) await this.fill(); // one that was under way did not know of the last answer
    }
    const item = this.waiting.shift() ?? null;
    if (item) this.held.add(item.id);
    this.fill();
    return item;
  }

  putBack(item) {
    if (item) this.waiting.unshift(item);
  }

  fill() {
    this.filling ??= this.ask().finally(() => (this.filling = null));
    return this.filling;
  }

  async ask() {
    const wanted = AHEAD - this.waiting.length;
    if (wanted < 1) return;
    const sent = this.outbox.map((each) => each.building_id).filter(Boolean);
    const holding = [...new Set([...this.waiting.map((each) => each.id), ...this.held, ...sent])];
    try {
      const { items, state } = await this.store.next(wanted, holding);
      const known = new Set(holding);
      const fresh = items.filter((each) => !known.has(each.id));
      this.waiting.push(...fresh);
      this.empty = !this.waiting.length;
      for (const item of fresh) this.load(item, "near");
      this.told(state);
    } catch (error) {
      this.empty = false;
      this.failed(error);
    }
  }

  load(item, frame) {
    const name = `${item.id}/${frame}`;
    if (!this.images.has(name)) {
      const dates = this.store.isSingle ? ["post"] : ["pre", "post"];
      const images = dates.map((date) => {
        const image = new Image();
        for (const end of ["load", "error"]) image.addEventListener(end, () => this.changed());
        image.src = this.store.picture(item, frame, date);
        image.decode().catch(() => {});
        return image;
      });
      this.images.set(name, [images[0], images.at(-1)]);
      if (this.images.size > 40) this.images.delete(this.images.keys().next().value);
    }
    return this.images.get(name);
  }

  say(answer) {
    this.outbox.push(answer);
    this.keep();
    this.flush();
  }

  // an answer that is not saved yet is taken back here, else by the server
  async undo() {
    const last = this.outbox.at(-1);
    if (last && !this.sending) {
      this.outbox.pop();
      this.keep();
      return { withdrawn: last, item: last.building_id ? await this.store.find(last.building_id).catch(() => null) : null };
    }
    await this.settled;
    const { undone, state } = await this.store.undo(newKey());
    this.told(state);
    return undone;
  }

  flush() {
    if (!this.sending) this.settled = this.send();
    return this.settled;
  }

  async send() {
    this.sending = true;
    clearTimeout(this.again);
    try {
      while (this.outbox.length) {
        const answer = this.outbox[0];
        const { state } = await this.store.answer(answer);
        this.outbox.shift();
        this.keep();
        this.held.delete(answer.building_id);
        this.told(state);
      }
      this.failed(null);
      this.sent();
    } catch (error) {
      if (error.final) this.outbox.shift();
      this.keep();
      this.failed(error, { lost: error.final });
      this.again = setTimeout(() => this.flush(), 5000);
    } finally {
      this.sending = false;
    }
  }

  keep() {
    if (this.box) memory.write(this.box, this.outbox);
  }
}
