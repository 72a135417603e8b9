// Every key, what it does, and the list of them.

const KEYS = [
  ["1 2 3 4", "no damage, minor, major, destroyed"],
  ["0", "not a building"],
  ["u", "cannot tell; then 1 to 6 say why"],
  ["z", "undo: take the last answer back"],
  ["s", "skip: later"],
  ["f or Space", "flicker: before and after in turn"],
  ["b", "both side by side"],
  ["w", "swipe; , and . move the divider"],
  ["+ −", "less or more context"],
  ["o", "outline on or off"],
  ["l", "even out the light of both pictures"],
  ["← → ↑ ↓", "shift the outline by a pixel, with Shift by five"],
  ["r", "put the outline back"],
  ["d", "draw a missing building: arrows, Enter, c closes"],
  ["n", "note; Enter or Esc goes back"],
  ["m", "show what the map says"],
  ["/", "look up a building by its id"],
  ["g", "surveyed ground"],
  ["?", "this list"],
];
const ONE_IMAGE_KEYS = [
  ["1 4", "not destroyed, destroyed"],
  ...KEYS.slice(1).filter(([keys]) => !["f or Space", "b", "w"].includes(keys)),
];

function keyboard(screen, ground) {
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const simple = {
    z: () => screen.undo(),
    Backspace: () => screen.undo(),
    s: () => screen.skip(),
    f: () => screen.flicker(),
    " ": () => screen.flicker(),
    b: () => screen.setMode("side"),
    w: () => screen.setMode("swipe"),
    "+": () => screen.context(-1),
    "=": () => screen.context(-1),
    "-": () => screen.context(1),
    o: () => screen.toggleOutline(),
    l: () => screen.toggleLight(),
    r: () => screen.reset(),
    d: () => (screen.isDrawing ? screen.stopDrawing() : screen.startDrawing()),
    n: () => {
      screen.openNote(true);
      $("#note-text").focus();
    },
    m: () => screen.showMap($("#show-map").getAttribute("aria-pressed") !== "true"),
    "/": () => lookUp(screen),
    g: () => ground.open(),
    "?": () => $("#help").showModal(),
    ",": () => slideBy(screen, -5),
    ".": () => slideBy(screen, 5),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target;
    if (target.id === "note-text") {
      if (event.key === "Enter" || event.key === "Escape") {
        target.blur();
        event.preventDefault();
      }
      return;
    }
    if (ground.dialog.open) {
      if (ground.key(event)) event.preventDefault();
      return;
    }
    if ($("dialog[open]") || ["INPUT", "TEXTAREA"].includes(target.tagName)) return;
    const isButton = target.tagName === "BUTTON" && (event.key === " " || event.key === "Enter");
    if (isButton) return;
    if (screen.asking) {
      const reason = REASONS.find((each) => each.key === event.key);
      if (reason) screen.answer("cannot-tell", reason.name);
      else if (event.key === "Escape" || event.key === "z") screen.askReason(false);
      else return;
      return event.preventDefault();
    }
    if (screen.isDrawing) {
      if (event.key === "Escape") screen.stopDrawing();
      else if (!screen.pen.key(event)) return;
      screen.draw();
      return event.preventDefault();
    }
    const verdict = screen.verdicts.find((each) => each.key === event.key);
    const arrow = arrows[event.key];
    if (verdict && !event.repeat) screen.choose(verdict.name);
    else if (arrow) screen.shift(...arrow.map((by) => by * (event.shiftKey ? 5 : 1)));
    else if (simple[event.key]) simple[event.key]();
    else return;
    event.preventDefault();
  });
}

function slideBy(screen, by) {
  $("#divider").value = Number($("#divider").value) + by;
  screen.draw();
}

async function lookUp(screen) {
  const id = window.prompt("Which building? Its id:");
  if (!id) return;
  await screen.attempt(async () => {
    const item = await screen.store.find(id.trim());
    screen.queue.putBack(screen.item);
    screen.queue.held.add(item.id);
    screen.show({ ...item, origin: "chosen" });
  });
}
