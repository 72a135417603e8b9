// The same without a server: buildings stand in the page, answers are kept in the browser and saved as a file.

class OfflineStore {
  offline = true;

  constructor(data) {
    this.items = data.items;
    this.told = data.state;
    this.reviewer = "";
    this.name = `answers-${this.told.outlines_sha256}`;
    this.answers = memory.read(this.name, []);
    this.told_ground = data.ground;
    this.marks = memory.read(`${this.name}-ground`, []);
    this.unsaved = this.answers.length + this.marks.length;
    this.later = new Set();
  }

  async state() {
    const done = new Set(this.answers.map((each) => each.building_id));
    const count = (origin) => this.items.filter((each) => each.origin === origin);
    const told = (origin) => [count(origin).filter((each) => done.has(each.id)).length, count(origin).length];
    const [sample, active] = [told("sample"), told("active")];
    return { ...this.told, sample, active, answered: done.size, budget: this.items.length, mine: done.size };
  }

  async next(count, holding) {
    const done = new Set([...this.answers.map((each) => each.building_id), ...holding]);
    let free = this.items.filter((each) => !done.has(each.id) && !this.later.has(each.id));
    if (!free.length) {
      free = this.items.filter((each) => !done.has(each.id));
      this.later.clear();
    }
    return { items: free.slice(0, count), state: await this.state() };
  }

  async answer(said) {
    const whole = { ...said, reviewer: this.reviewer, at: new Date().toISOString() };
    this.answers = [...this.answers.filter((each) => !said.building_id || each.building_id !== said.building_id), whole];
    this.unsaved += 1;
    this.keep();
    return { saved: said.key, building_id: said.building_id, state: await this.state() };
  }

  async undo() {
    const last = this.answers.pop();
    if (!last) return { undone: null, state: await this.state() };
    this.unsaved += 1;
    this.keep();
    const item = this.items.find((each) => each.id === last.building_id) ?? null;
    return { undone: { withdrawn: last, item }, state: await this.state() };
  }

  async skip(id) {
    this.later.add(id);
    return {};
  }

  async find(id) {
    const item = this.items.find((each) => each.id === id);
    if (!item) throw new Failure(`this page has no building ${id}`, { final: true });
    return item;
  }

  picture(item, frame, date) {
    return item.pictures.at(date === "post" ? -1 : 0);
  }

  overview(date) {
    return this.told_ground.overview.at(date === "post" ? -1 : 0);
  }

  async ground() {
    const withdrawn = new Set(this.marks.map((each) => each.withdraws));
    const marks = [...this.told_ground.marks, ...this.marks].filter((each) => each.outline && !withdrawn.has(each.key));
    const told = this.answers.filter((each) => each.verdict !== "cannot-tell").map((each) => each.building_id);
    const seen = new Set(this.items.filter((each) => told.includes(each.id)).map((each) => each.row));
    const isIn = ([x, y, was], row) => {
      const over = marks.findLast((mark) => holds(mark.outline, [x, y]));
      return was === 2 || seen.has(row) || Boolean(over?.surveyed);
    };
    const dots = this.told_ground.dots.map((dot, row) => [dot[0], dot[1], Number(isIn(dot, row))]);
    const surveyed = dots.filter((dot) => dot[2]).length;
    return { marks, dots, buildings: dots.length, surveyed, not_surveyed: dots.length - surveyed };
  }

  async mark(said) {
    this.marks.push({ ...said, reviewer: this.reviewer, at: new Date().toISOString() });
    this.unsaved += 1;
    this.keep();
    return this.ground();
  }

  keep() {
    if (!memory.write(this.name, this.answers) || !memory.write(`${this.name}-ground`, this.marks)) {
      throw new Failure("this browser keeps nothing: use 'Save answers' before you close the page");
    }
  }

  download() {
    const tree = {
      format: "aftermap-review-answers",
      version: 1,
      outlines_sha256: this.told.outlines_sha256,
      map: this.told.title,
      answers: this.answers,
      marks: this.marks,
    };
    const link = make("a", {
      href: URL.createObjectURL(new Blob([JSON.stringify(tree)], { type: "application/json" })),
      download: `answers-${this.told.title}-${this.reviewer || "reviewer"}.json`.replace(/[^\p{L}\p{N}._-]+/gu, "-"),
    });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    this.unsaved = 0;
  }
}
