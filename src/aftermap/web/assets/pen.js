// Draws a shape corner by corner, with a pointer or with keys alone.

class Pen {
  constructor({ view, changed, finished }) {
    this.view = view; // gives the View that is drawn on now
    this.changed = changed;
    this.finished = finished;
    this.points = [];
    this.cross = null;
  }

  get ring() {
    return this.cross && this.points.length ? [...this.points, this.cross] : this.points;
  }

  start(at = null) {
    this.points = [];
    this.cross = at;
    this.changed();
  }

  add(point) {
    const view = this.view();
    const first = this.points[0];
    if (this.points.length >= 3 && first) {
      const [[x, y], [a, b]] = [view.place(point), view.place(first)];
      if (Math.hypot(x - a, y - b) < (isTouch() ? 26 : 14) * view.ratio) return this.close();
    }
    this.points.push(point);
    this.changed();
  }

  close() {
    if (this.points.length < 3) return;
    const ring = this.points;
    this.points = [];
    this.cross = null;
    this.finished([ring]);
  }

  // true where the key was used
  key(event) {
    const view = this.view();
    const step = ((event.shiftKey ? 24 : 6) * view.ratio) / view.scale;
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (ways[event.key]) {
      const [x, y] = this.cross ?? view.middle;
      this.cross = [x + ways[event.key][0] * step, y + ways[event.key][1] * step];
    } else if (event.key === "Enter" || event.key === " ") {
      this.add(this.cross ?? view.middle);
    } else if (event.key === "Backspace") {
      this.points.pop();
    } else if (event.key === "c") {
      this.close();
    } else {
      return false;
    }
    this.changed();
    return true;
  }

  draw(view) {
    if (this.points.length) {
      view.rings([this.ring], { colour: "#ffe14d", width: 2, casing: 2, dash: [6, 4], close: false });
      view.corners(this.points, "#ffe14d");
    }
    if (this.cross) view.cross(this.cross);
  }
}
