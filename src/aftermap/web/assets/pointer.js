// Fingers and mouse on the pictures: drag the outline or the divider, tap to flicker, wheel for context.

function listen(screen, canvas) {
  let from = null;
  const view = () => screen.views.find((each) => each.canvas === canvas);
  canvas.addEventListener("pointerdown", (event) => {
    if (!screen.item || event.button) return;
    canvas.setPointerCapture(event.pointerId);
    if (screen.isDrawing) {
      screen.pen.view = view;
      return screen.pen.add(view().under(event));
    }
    from = { at: [event.clientX, event.clientY], last: view().under(event), is: false };
    from.on = holds(screen.missing ?? screen.rings ?? screen.item.outline, from.last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (screen.isDrawing && event.pointerType === "mouse" && screen.pen.points.length) {
      screen.pen.cross = view().under(event);
      return screen.draw();
    }
    if (!from) return;
    from.is ||= Math.hypot(event.clientX - from.at[0], event.clientY - from.at[1]) > 4;
    if (!from.is) return;
    if (screen.view.mode === "swipe") return slide(screen, event);
    const now = view().under(event);
    if (from.on) screen.shift(now[0] - from.last[0], now[1] - from.last[1]);
    from.last = now;
  });
  const end = (event) => {
    if (from && !from.is && event.type === "pointerup") {
      if (screen.view.mode === "flicker") screen.flicker();
      else if (screen.view.mode === "swipe") slide(screen, event);
    }
    from = null;
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    screen.turned = (screen.turned ?? 0) + event.deltaY;
    if (Math.abs(screen.turned) < 60) return;
    screen.context(Math.sign(screen.turned));
    screen.turned = 0;
  }, { passive: false });
}

function slide(screen, event) {
  const box = $("#pane-after canvas").getBoundingClientRect();
  $("#divider").value = Math.round((100 * (event.clientX - box.left)) / box.width);
  screen.draw();
}
