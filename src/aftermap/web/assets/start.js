// Puts the page together and begins.

const data = $("#data");
const store = data ? new OfflineStore(JSON.parse(data.textContent)) : new ServerStore();
const screen = new Screen(store);
const ground = new Ground(store, screen);

function buttons(state) {
  const colours = Object.fromEntries(state.levels.map((level) => [level.name, level.colour]));
  const section = $("#verdicts");
  for (const verdict of screen.verdicts) {
    const button = make("button", { type: "button", "data-verdict": verdict.name, title: verdict.about });
    button.append(make("kbd", {}, verdict.key), make("span", {}, verdict.label));
    const colour = colours[verdict.name];
    if (colour) {
      button.style.backgroundColor = colour;
      button.style.color = inkOn(colour);
    }
    button.addEventListener("click", () => {
      screen.choose(verdict.name);
      if (verdict.name !== "cannot-tell") button.blur();
    });
    section.append(button);
    $("#levels").append(make("dt", {}, verdict.label), make("dd", {}, verdict.about));
  }
  for (const reason of REASONS) {
    const button = make("button", { type: "button", onclick: () => screen.answer("cannot-tell", reason.name) });
    button.append(make("kbd", {}, reason.key), make("span", {}, reason.label));
    $("#reasons").append(button);
  }
  $("#reasons").append(make("button", { type: "button", class: "quiet", onclick: () => screen.askReason(false) }, "Back"));
  $("#help-keys").append(
    ...(store.isSingle ? ONE_IMAGE_KEYS : KEYS).map(([keys, about]) => {
      const each = keys.split(" ").map((key) => (key === "or" ? " or " : make("kbd", {}, key)));
      return make("p", {}, make("span", { class: "keys" }, ...each), about);
    }),
  );
}

function wire() {
  for (const button of $$("#tools [data-mode]")) {
    const { mode } = button.dataset;
    button.addEventListener("click", () => (mode === "flicker" && screen.view.mode === mode ? screen.flicker() : screen.setMode(mode)));
  }
  const clicks = {
    "#closer": () => screen.context(-1),
    "#wider": () => screen.context(1),
    "#outline": () => screen.toggleOutline(),
    "#light": () => screen.toggleLight(),
    "#reset": () => (screen.reset(), screen.hint("")),
    "#draw": () => screen.drawOrClose(),
    "#skip": () => screen.skip(),
    "#undo": () => screen.undo(),
    "#show-map": () => screen.showMap($("#show-map").getAttribute("aria-pressed") !== "true"),
    "#retry": () => screen.retry(),
    "#open-help": () => $("#help").showModal(),
    "#open-ground": () => ground.open(),
    "#download": () => screen.download(),
    "#who": () => askName(),
    "#note": () => {
      screen.openNote($("#note-row").hidden);
      if (!$("#note-row").hidden) $("#note-text").focus();
    },
  };
  for (const [selector, action] of Object.entries(clicks)) $(selector).addEventListener("click", action);
  $("#divider").addEventListener("input", () => screen.draw());
  for (const button of $$("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
  // a tool that was clicked must not keep Space and Enter to itself
  $("main").addEventListener("click", (event) => {
    if (event.detail && !$("#reasons").contains(event.target)) event.target.closest("button")?.blur();
  });
  window.addEventListener("pagehide", () => store.offline || store.release());
  window.addEventListener("beforeunload", (event) => {
    if (screen.queue.outbox.length || (store.offline && store.unsaved)) event.preventDefault();
  });
}

// resolves once there is a name
function askName() {
  const dialog = $("#ask-name");
  $("#name-text").value = store.reviewer;
  dialog.showModal();
  $("#name-text").select();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const name = $("#name-text").value.trim();
        if (name) setName(name);
        resolve(store.reviewer ? true : askName());
      },
      { once: true },
    );
  });
}

function setName(name) {
  store.reviewer = name;
  memory.write("reviewer", name);
  $("#who").textContent = name;
}

async function begin() {
  const state = await store.state();
  store.isSingle = state.dates.length === 1;
  if (store.isSingle) screen.showOne();
  buttons(state);
  wire();
  keyboard(screen, ground);
  $("#download").hidden = !store.offline;
  screen.tell(state);
  const known = memory.read("reviewer");
  if (typeof known === "string" && known) setName(known);
  else await askName();
  screen.queue.restore();
  window.addEventListener("hashchange", () => screen.lookUp(named()));
  if (!(await screen.lookUp(named()))) await screen.advance();
}

// the building that the address names: review/#building=ID
function named() {
  return new URLSearchParams(location.hash.slice(1)).get("building");
}

begin().catch((error) => screen.alarm(error));
