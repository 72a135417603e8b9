// The screen of a review: one building at a time.

class Screen {
  constructor(store) {
    this.store = store;
    this.queue = new Queue(store, {
      changed: () => this.draw(),
      failed: (error, more) => this.alarm(error, more),
      told: (state) => this.tell(state),
      sent: () => $("#done").hidden || this.advance(),
    });
    this.view = { mode: "side", step: 2, outline: true, light: false, ...memory.read("view", {}) };
    this.view.shown = "post";
    this.item = null;
    this.rings = null; // of the outline, where it was moved
    this.drawn = []; // outlines drawn here, which the map misses
    this.pen = new Pen({
      view: () => this.views[0],
      changed: () => (this.penButton(), this.draw()),
      finished: (rings) => this.shapeDone(rings),
    });
    this.isDrawing = false;
    this.missing = null; // a drawn outline that waits for its answer
    this.mapShown = false;
    this.asking = false;
    this.canvases = $$("#panes canvas");
    for (const canvas of this.canvases) listen(this, canvas);
    new ResizeObserver(() => this.draw()).observe($("#panes"));
  }

  get verdicts() {
    return this.store.isSingle ? ONE_IMAGE_VERDICTS : VERDICTS;
  }

  // how the dates are shown; there is nothing to compare where there is one
  get mode() {
    return this.store.isSingle ? "flicker" : this.view.mode;
  }

  showOne() {
    $("#tools [aria-label=View]").hidden = $("#ground-date").hidden = true;
    $("#panes").setAttribute("aria-label", "After");
  }

  get steps() {
    return this.store.offline ? 4 : STEPS.length;
  }

  // Which building

  async advance() {
    this.say("");
    this.item = null; // a key that comes too early must not answer the building before
    const item = await this.queue.next(() => this.wait());
    if (!item) return this.finished();
    this.show(item);
  }

  // a building by its id; false where none is named
  async lookUp(id) {
    if (!id || this.store.offline) return false;
    try {
      const item = await this.store.find(id);
      this.queue.putBack(this.item);
      this.show(item);
      return true;
    } catch (error) {
      if (!this.item) await this.advance();
      this.say(`Building ${id}: ${error.message}`);
      return true;
    }
  }

  show(item, before = null) {
    Object.assign(this, { item, rings: null, missing: null, mapShown: false });
    this.rings = before?.outline ?? null;
    this.view.shown = "post";
    this.stopDrawing();
    this.askReason(false);
    this.isDone(false);
    this.began = performance.now();
    this.note(before?.note ?? "", { open: Boolean(before?.note) });
    const [name, title] = ORIGINS[item.origin] ?? ["", ""];
    Object.assign($("#origin"), { textContent: name, title, className: item.origin });
    $("#show-map").hidden = false;
    $("#name").textContent = `building ${item.id}${item.double ? " · read twice" : ""}`;
    $("#panes").classList.remove("waiting");
    this.showMap(false);
    this.draw();
    this.measure?.(performance.now());
  }

  wait() {
    this.unnamed();
    $("#name").textContent = "the next one is on its way …";
    $("#panes").classList.add("waiting");
  }

  // nothing is said of a building that is not there any more
  unnamed() {
    Object.assign($("#origin"), { textContent: "", title: "", className: "" });
    $("#show-map").hidden = true;
    this.hint("");
  }

  async finished() {
    if (!this.queue.empty) return this.wait();
    await this.queue.settled; // the last answers may be under way
    if (this.item) return;
    this.unnamed();
    $("#name").textContent = "";
    const state = this.state ?? (await this.store.state());
    const done = $("#done");
    const rest = state.buildings - state.answered;
    const words = this.store.offline
      ? "Save your answers as a file, and take it in with: aftermap review OUT --import FILE"
      : `Answers are saved. Go on with ${this.store.isSingle ? "" : "aftermap learn and "}aftermap totals, or look at more buildings.`;
    const [did, of] = [state.sample[0] + state.active[0], state.sample[1] + state.active[1]];
    const isOpen = !this.store.offline && did < of;
    done.replaceChildren(
      make("h2", {}, isOpen ? `${of - did} are open in other browsers` : "All looked at"),
      make("p", {}, `${state.answered} buildings are answered, ${state.mine} of them by you.`),
      make("p", {}, isOpen ? "They come here when a browser is closed, or answers nothing for five minutes." : words),
    );
    if (isOpen) done.append(make("button", { type: "button", class: "main", onclick: () => this.advance() }, "Look again"));
    if (!this.store.offline && rest > 0) {
      done.append(make("button", { type: "button", class: "main", onclick: () => this.more(20) }, "20 more"));
    }
    if (this.store.offline) done.append(make("button", { type: "button", class: "main", onclick: () => this.download() }, "Save answers"));
    this.isDone(true);
  }

  async more(count) {
    await this.attempt(async () => {
      this.tell((await this.store.more(count)).state);
      await this.advance();
    });
  }

  isDone(is) {
    $("#done").hidden = !is;
    $("#panes").classList.toggle("over", is);
    if (is) $("#done button")?.focus();
  }

  // What is said

  answer(verdict, reason = "") {
    if (!this.item) return;
    const missing = this.missing;
    const said = {
      key: newKey(),
      building_id: missing ? "" : this.item.id,
      verdict,
      reason,
      seconds: Math.round(performance.now() - this.began) / 1000,
      note: $("#note-text").value.trim(),
      outline: missing ?? this.rings,
      origin: this.item.origin === "chosen" ? "chosen" : "",
      shown: { mode: this.store.isSingle ? "single" : this.view.mode, context: this.view.step, map_shown: this.mapShown },
    };
    said.reviewer = this.store.reviewer;
    this.queue.say(said);
    this.askReason(false);
    if (missing) {
      this.drawn.push(missing);
      this.missing = null;
      this.note("");
      this.hint("");
      this.say(`Drawn building saved as ${labelOf(verdict).toLowerCase()}: now the one of the map`);
      return this.draw();
    }
    this.advance().then(() => this.say(`${labelOf(verdict)}${reason ? ` (${reason})` : ""} · ${isTouch() ? "Undo" : "z"} takes it back`));
  }

  choose(verdict) {
    if (!this.item) return;
    if (!this.isSeen) return this.say("The pictures are on their way …");
    if (verdict === "cannot-tell") return this.askReason(true);
    this.answer(verdict);
  }

  askReason(is) {
    this.asking = is;
    $("#reasons").hidden = !is;
    $("#verdicts").hidden = is;
    if (is) $("#reasons button").focus({ preventScroll: true });
  }

  async skip() {
    if (!this.item) return;
    const { id } = this.item;
    await this.attempt(async () => {
      await this.store.skip(id);
      this.queue.held.delete(id);
      await this.advance();
      this.say("Skipped: it comes again after some others");
    });
  }

  async undo() {
    await this.attempt(async () => {
      const undone = await this.queue.undo();
      if (!undone) return this.say("There is nothing to take back");
      const { withdrawn, item } = undone;
      if (!item) {
        this.drawn.pop();
        if (this.item) this.item.drawn = this.item.drawn?.filter((each) => String(each) !== String(withdrawn.outline));
        this.draw();
        return this.say(`${labelOf(withdrawn.verdict)} of a drawn building taken back`);
      }
      if (this.item?.id !== item.id) this.queue.putBack(this.item);
      this.queue.held.add(item.id);
      this.show(item, withdrawn);
      this.say(`Taken back: ${labelOf(withdrawn.verdict)}`);
    });
  }

  async attempt(what) {
    try {
      await what();
    } catch (error) {
      this.say(error.message);
    }
  }

  note(text, { open = false } = {}) {
    $("#note-text").value = text;
    this.openNote(open);
  }

  openNote(is) {
    $("#note-row").hidden = !is;
    $("#note").setAttribute("aria-expanded", String(is));
  }

  // The outline

  shift(dx, dy) {
    if (!this.item) return;
    if (this.missing) this.missing = moved(this.missing, dx, dy);
    else this.rings = moved(this.rings ?? this.item.outline, dx, dy);
    this.draw();
  }

  reset() {
    this.rings = this.missing = null;
    this.draw();
  }

  startDrawing() {
    if (!this.item) return;
    if (this.mode === "side") this.pen.view = () => this.views[this.views.length - 1];
    this.isDrawing = true;
    this.missing = null;
    const where = this.store.isSingle ? "" : ", on either picture";
    this.hint(isTouch() ? `Tap the corners${where}` : `Click the corners${where}, or arrow keys and Enter; c closes, Esc ends`);
    this.pen.start(null);
  }

  stopDrawing() {
    this.isDrawing = false;
    this.pen.points = [];
    this.pen.cross = null;
    this.penButton();
    this.hint("");
  }

  // one button begins, closes and ends a shape
  penButton() {
    const button = $("#draw");
    button.setAttribute("aria-pressed", String(this.isDrawing));
    button.textContent = !this.isDrawing ? "Draw missing" : this.pen.points.length < 3 ? "Stop drawing" : "Close shape";
  }

  drawOrClose() {
    if (!this.isDrawing) this.startDrawing();
    else if (this.pen.points.length < 3) this.stopDrawing();
    else this.pen.close();
  }

  shapeDone(rings) {
    this.stopDrawing();
    this.missing = rings;
    this.hint(`What happened to the building that you drew? ${isTouch() ? "Put back drops it" : `${this.store.isSingle ? "1 or 4" : "1 to 4"}; r drops it`}`);
    this.draw();
  }

  hint(text) {
    $("#hint").textContent = text;
    $("#hint").hidden = !text;
  }

  // The view

  setMode(mode) {
    if (this.store.isSingle) return;
    this.view.mode = mode;
    this.view.shown = "post";
    this.remember();
  }

  flicker() {
    if (this.store.isSingle) return;
    if (this.view.mode !== "flicker") this.view.mode = "flicker";
    this.view.shown = this.view.shown === "post" ? "pre" : "post";
    this.remember();
  }

  context(by) {
    this.view.step = Math.min(this.steps - 1, Math.max(0, this.view.step + by));
    this.remember();
  }

  toggleOutline() {
    this.view.outline = !this.view.outline;
    this.remember();
  }

  toggleLight() {
    this.view.light = !this.view.light;
    this.remember();
  }

  remember() {
    const { mode, step, outline, light } = this.view;
    memory.write("view", { mode, step, outline, light });
    this.draw();
  }

  showMap(is) {
    this.mapShown ||= is;
    const button = $("#show-map");
    const { damage, confidence, reason } = this.item?.map ?? {};
    const sure = confidence == null ? "" : ` ${Math.round(confidence * 100)} %`;
    button.textContent = is ? `Map: ${labelOf(damage)}${sure}${reason ? ` (${reason})` : ""}` : "Map: hidden";
    button.setAttribute("aria-pressed", String(is));
  }

  // both pictures are there, or will never be
  get isSeen() {
    const { frame } = STEPS[Math.min(this.view.step, this.steps - 1)];
    return this.queue.load(this.item, frame).every((image) => image.complete);
  }

  get views() {
    const step = Math.min(this.view.step, this.steps - 1);
    const seen = this.canvases.filter((canvas) => canvas.clientWidth);
    return seen.map((canvas) => new View(canvas, this.item, step));
  }

  draw() {
    const { shown, step } = this.view;
    const { mode } = this;
    const panes = $("#panes");
    panes.dataset.mode = mode;
    for (const button of $$("[data-mode]", $("#tools"))) {
      button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
    }
    $("#outline").setAttribute("aria-pressed", String(this.view.outline));
    $("#light").setAttribute("aria-pressed", String(this.view.light));
    $("#closer").disabled = step <= 0;
    $("#wider").disabled = step >= this.steps - 1;
    $("#reset").disabled = !this.rings && !this.missing;
    $("#divider").hidden = mode !== "swipe";
    const caption = { side: "After", flicker: shown === "post" ? "After" : "Before", swipe: "Before | After" }[mode];
    $("#pane-after figcaption").textContent = caption;
    panes.dataset.shown = mode === "flicker" ? shown : "";
    if (!this.item) return;
    const views = this.views;
    const divider = $("#divider").value / 100;
    views.forEach((view, at) => {
      const frame = this.item.frames[view.frame];
      view.clear();
      const across = (Math.max(view.width, view.height) / view.scale) * 0.98;
      if (view.frame === "near" && across > frame[2] && this.item.frames.wide) this.paint(view, at, views.length, "wide", divider);
      this.paint(view, at, views.length, view.frame, divider);
      this.over(view);
    });
    panes.dataset.ready = this.isSeen ? "yes" : "no";
    this.describe();
  }

  paint(view, at, panes, name, divider) {
    const { shown } = this.view;
    const { mode } = this;
    const loaded = this.queue.load(this.item, name);
    const dates = this.view.light ? loaded.map(evened) : loaded;
    const frame = this.item.frames[name];
    if (name === view.frame && !loaded.every(isLoaded)) {
      view.words(loaded.every((image) => image.complete) ? "A picture could not be loaded" : "The picture is on its way …");
    }
    if (mode === "side" && panes === 2) view.picture(dates[at], frame);
    else if (mode === "swipe") {
      view.picture(dates[0], frame, { to: divider });
      view.picture(dates[1], frame, { from: divider });
    } else view.picture(dates[shown === "post" ? 1 : 0], frame);
  }

  over(view) {
    if (this.view.outline) {
      view.rings(this.item.around.flat(), { colour: "rgba(255, 255, 255, 0.75)", width: 1 });
      for (const rings of [...(this.item.drawn ?? []), ...this.drawn]) view.rings(rings, { colour: "#ffe14d", width: 2, casing: 2 });
      if (this.rings) view.rings(this.item.outline, { colour: "#9adfe8", width: 1, dash: [4, 4] });
      const chosen = this.missing ? this.item.outline : (this.rings ?? this.item.outline);
      view.rings(chosen, { colour: this.missing ? "#9adfe8" : "#2fe3ff", width: 2.5, casing: 2.5 });
      if (this.missing) view.rings(this.missing, { colour: "#ffe14d", width: 2.5, casing: 2.5 });
    }
    if (this.isDrawing) this.pen.draw(view);
    view.ruler(this.state?.metres_per_px);
  }

  describe() {
    const { id, origin } = this.item;
    this.canvases.forEach((canvas, at) => {
      const when = this.store.isSingle ? "After" : ["Before", "After"][at];
      const text = `${when}: building ${id}, ${(ORIGINS[origin] ?? [""])[0].toLowerCase()}`;
      if (canvas.getAttribute("aria-label") !== text) canvas.setAttribute("aria-label", text);
    });
  }

  // What is told

  tell(state) {
    if (!state || state.journal_bytes < this.state?.journal_bytes) return; // an answer of the server that was overtaken
    this.state = state;
    const [sample, active] = [state.sample, state.active];
    const of = sample[1] + active[1];
    const done = sample[0] + active[0];
    $("#bar-sample").style.width = `${of ? (100 * sample[0]) / of : 0}%`;
    $("#bar-active").style.width = `${of ? (100 * active[0]) / of : 0}%`;
    const bar = $("#progress");
    bar.setAttribute("aria-valuemax", of);
    bar.setAttribute("aria-valuenow", done);
    bar.setAttribute("aria-valuetext", `${done} of ${of}`);
    $("#count").replaceChildren(
      make("b", {}, `${done} of ${of}`),
      make("span", { class: "sample" }, `${sample[0]}/${sample[1]} random`),
      ...(this.store.isSingle ? [] : [make("span", { class: "active" }, `${active[0]}/${active[1]} picked`)]),
      ...(state.others ? [make("span", {}, `+${state.others} others`)] : []),
    );
    const { pairs, agree, kappa } = state.agreement;
    const beyond = kappa == null ? "" : `, kappa ${kappa.toFixed(2)}`;
    $("#agree").textContent = pairs ? `${agree} of ${pairs} read twice agree${beyond}` : "";
    if (this.store.offline) $("#download").textContent = `Save answers${this.store.unsaved ? ` (${this.store.unsaved})` : ""}`;
  }

  say(text) {
    $("#said").textContent = text;
  }

  alarm(error, { lost = false } = {}) {
    const count = this.queue.outbox.length;
    $("#alarm").hidden = !error;
    if (!error) return;
    const kept = count ? ` ${count} answer${count === 1 ? " is" : "s are"} NOT saved yet and kept in this browser.` : "";
    $("#alarm p").textContent = lost ? `An answer was refused: ${error.message}.${kept}` : `Not saved: ${error.message}.${kept}`;
    if (this.item === null) this.say("");
  }

  async retry() {
    await this.queue.flush();
    if (!this.item && !this.queue.outbox.length) {
      $("#alarm").hidden = true;
      await this.advance();
    }
  }

  download() {
    this.store.download();
    this.tell(this.state);
    this.say("Answers saved as a file");
  }
}
