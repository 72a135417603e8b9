// Ground that somebody looked at, on a picture of the whole map.

class Ground {
  constructor(store, screen) {
    this.store = store;
    this.screen = screen;
    this.dialog = $("#ground");
    this.canvas = $("#ground-map");
    this.surveyed = true;
    this.date = "post";
    this.images = {};
    this.pen = new Pen({ view: () => this.view, changed: () => this.draw(), finished: (rings) => this.mark(rings) });
    $("#mark-yes").addEventListener("click", () => this.choose(true));
    $("#mark-no").addEventListener("click", () => this.choose(false));
    $("#mark-close").addEventListener("click", () => this.pen.close());
    $("#mark-undo").addEventListener("click", () => this.takeBack());
    $("#mark-all").addEventListener("click", () => this.all());
    $("#ground-date").addEventListener("click", () => this.turn());
    this.canvas.addEventListener("pointerdown", (event) => this.pen.add(this.view.under(event)));
    this.canvas.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "mouse" || !this.pen.points.length) return;
      this.pen.cross = this.view.under(event);
      this.draw();
    });
    this.canvas.addEventListener("dblclick", () => this.pen.close());
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  async open() {
    this.dialog.showModal();
    this.pen.start(null);
    this.canvas.focus();
    for (const date of this.store.isSingle ? ["post"] : ["pre", "post"]) {
      if (this.images[date]) continue;
      this.images[date] = new Image();
      this.images[date].addEventListener("load", () => this.draw());
      this.images[date].src = this.store.overview(date);
    }
    await this.attempt(async () => this.told(await this.store.ground()));
  }

  get view() {
    const [width, height] = this.screen.state.grid;
    const side = Math.max(width, height);
    const item = { frames: { near: [(width - side) / 2, (height - side) / 2, side, side] } };
    const view = new View(this.canvas, item, 2);
    view.scale = Math.min(view.width / width, view.height / height) * 0.98;
    return view;
  }

  draw() {
    if (!this.dialog.open) return;
    const view = this.view;
    view.clear();
    view.picture(this.images[this.date], [0, 0, ...this.screen.state.grid]);
    if (!isLoaded(this.images[this.date])) view.words("The picture is on its way …");
    for (const mark of this.ground?.marks ?? []) {
      const colour = mark.surveyed ? "#45e07f" : "#ff8f7a";
      view.rings(mark.outline, { colour, width: 2.5, casing: 2, dash: mark.surveyed ? [] : [8, 5], fill: `${colour}40` });
    }
    view.dots(this.ground?.dots ?? []);
    this.pen.draw(view);
    view.ruler(this.screen.state.metres_per_px);
    $("#mark-close").disabled = this.pen.points.length < 3;
    $("#mark-undo").disabled = !this.pen.points.length && !(this.ground?.marks ?? []).length;
  }

  told(ground) {
    this.ground = ground;
    this.screen.tell(this.screen.state);
    const { surveyed, not_surveyed, buildings } = ground;
    $("#ground-count").textContent =
      `${surveyed} of ${buildings} buildings are answered or on surveyed ground; ${not_surveyed} are not surveyed, which does not mean safe`;
    this.draw();
  }

  choose(surveyed) {
    this.surveyed = surveyed;
    $("#mark-yes").setAttribute("aria-pressed", String(surveyed));
    $("#mark-no").setAttribute("aria-pressed", String(!surveyed));
    this.canvas.focus();
  }

  turn() {
    if (this.store.isSingle) return;
    this.date = this.date === "post" ? "pre" : "post";
    $("#ground-date").textContent = this.date === "post" ? "Show before" : "Show after";
    this.draw();
  }

  mark(outline) {
    return this.attempt(async () => this.told(await this.store.mark({ key: newKey(), surveyed: this.surveyed, outline })));
  }

  all() {
    const [width, height] = this.screen.state.grid;
    return this.mark([[[0, 0], [width, 0], [width, height], [0, height]]]);
  }

  takeBack() {
    if (this.pen.points.length) {
      this.pen.points.pop();
      return this.draw();
    }
    const last = this.ground?.marks.at(-1);
    if (last) return this.attempt(async () => this.told(await this.store.mark({ key: newKey(), withdraws: last.key })));
  }

  async attempt(what) {
    try {
      await what();
    } catch (error) {
      $("#ground-count").textContent = `Not saved: ${error.message}`;
    }
  }

  key(event) {
    if (document.activeElement !== this.canvas) return false;
    if (event.key === "z") this.takeBack();
    else if (event.key === "f") this.turn();
    else return this.pen.key(event);
    return true;
  }
}
