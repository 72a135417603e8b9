// The border between before and after: by pointer, by finger, by keys.
import { $ } from "./api.js";

const STEP = 0.02;

export class Swipe {
  constructor(view) {
    this.view = view;
    this.handle = $("border");
    this.share = 0.5;
    if (!view.dates) return;
    for (const id of ["border", "before", "after"]) $(id).hidden = false;
    this.handle.addEventListener("pointerdown", (event) => {
      this.handle.setPointerCapture(event.pointerId);
      event.preventDefault();
      this.handle.focus({ focusVisible: false });
    });
    this.handle.addEventListener("pointermove", (event) => {
      if (!this.handle.hasPointerCapture(event.pointerId)) return;
      const box = $("stage").getBoundingClientRect();
      this.move((event.clientX - box.left) / box.width);
    });
    this.handle.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -STEP, ArrowDown: -STEP, ArrowRight: STEP, ArrowUp: STEP, PageDown: -0.2, PageUp: 0.2, Home: -1, End: 1 };
      if (!(event.key in steps)) return;
      event.preventDefault();
      this.move(this.share + steps[event.key]);
    });
    this.move(0.5);
  }

  move(share) {
    if (!this.view.dates) return;
    this.share = Math.min(1, Math.max(0, share));
    const percent = Math.round(this.share * 100);
    this.handle.style.left = `${this.share * 100}%`;
    this.handle.setAttribute("aria-valuenow", percent);
    this.handle.setAttribute("aria-valuetext", percent === 0 ? "after alone" : percent === 100 ? "before alone" : `before up to ${percent} percent`);
    $("before").hidden = this.share === 0;
    $("after").hidden = this.share === 1;
    this.view.divide(this.share);
  }

  step(direction) {
    this.move(this.share + direction * STEP * 2);
  }

  // all of one date, then all of the other
  flip() {
    this.move(this.share === 1 ? 0 : 1);
  }
}
