// A map that is looked at, searched and answered in place by several people at once.
import { $, ask, element, tell } from "./api.js";
import { Answers } from "./answers.js";
import { Building, VERDICTS, words } from "./building.js";
import { Filter } from "./filter.js";
import { Swipe } from "./swipe.js";
import { View } from "./view.js";

const number = location.pathname.split("/").pop();
export let view = null;

const failed = (error) => tell(error.message);

function search(open) {
  let last = 0;
  let timer = 0;
  const find = async () => {
    const text = $("text").value.trim();
    const turn = ++last;
    if (!text) return $("found").replaceChildren();
    const found = await ask(`/api/maps/${number}/buildings?limit=8&q=${encodeURIComponent(text)}`);
    if (turn !== last) return undefined;
    const lines = found.map((building) => {
      const line = element("li");
      const button = element("button", building.id, { type: "button" });
      button.append(element("span", building.damage, { class: "soft amount" }));
      button.addEventListener("click", () => open(building, { go: true }));
      line.append(button);
      return line;
    });
    return $("found").replaceChildren(...(lines.length ? lines : [element("li", "None has it in its id.", { class: "soft" })]));
  };
  $("text").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => find().catch(failed), 200);
  });
  $("find").addEventListener("submit", async (event) => {
    event.preventDefault();
    clearTimeout(timer);
    await find().catch(failed);
    $("found").querySelector("button")?.click();
  });
}

function layers(told, view) {
  $("show-buildings").addEventListener("change", (event) => view.showBuildings(event.target.checked));
  $("show-pixels").addEventListener("change", (event) => view.showPixels(event.target.checked));
  $("show-pixels").closest("label").hidden = !("damage" in told.layers);
  $("areas-label").hidden = !told.links.areas || !told.georeferenced;
  if (!told.h3) for (const cells of $("areas").querySelectorAll("[value^=h3]")) cells.remove();
  $("areas").addEventListener("change", async () => {
    const wanted = $("areas").value;
    $("areas-told").textContent = wanted ? "Counting" : "";
    try {
      const tree = wanted ? await ask(`${told.links.areas}?${wanted}`) : null;
      if ($("areas").value !== wanted) return;
      view.showAreas(tree);
      $("areas-told").textContent = tree ? `${tree.features.length.toLocaleString()} areas, darker where a larger share of the buildings is damaged; click one for its counts.` : "";
    } catch (error) {
      $("areas-told").textContent = error.message;
    }
  });
}

function hover(view, building) {
  let waits = false;
  const { canvas } = view;
  canvas.on("mousemove", (event) => {
    if (waits || canvas.isMoving()) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      const found = view.under(event.point);
      $("hover").hidden = !found;
      canvas.getCanvas().style.cursor = found ? "pointer" : "";
      if (!found) return;
      const sure = found.confidence === undefined ? "" : `, ${Number(found.confidence).toFixed(2)}`;
      $("hover").textContent = `${found.id}: ${found.damage}${sure}`;
    });
  });
  canvas.on("mouseout", () => { $("hover").hidden = true; });
  canvas.on("click", (event) => {
    const found = view.under(event.point, matchMedia("(pointer: coarse)").matches);
    if (found) return building(found);
    const area = view.areaAt(event.point);
    if (area) {
      $("areas-told").textContent = `${area.assessed} buildings assessed, ${area.damaged} damaged (${Math.round(100 * area.damaged_share)} %), ${area.destroyed} destroyed.`;
    }
    return undefined;
  });
}

function keys({ building, swipe, view, next, back }) {
  const verdicts = new Map(VERDICTS.map(({ key, name }) => [key, name]));
  const others = {
    n: next,
    p: back,
    z: () => building.takeBack(),
    x: () => swipe.flip(),
    "[": () => swipe.step(-1),
    "]": () => swipe.step(1),
    b: () => $("show-buildings").click(),
    h: () => view.everything(),
    "/": () => $("text").focus(),
    Escape: () => building.close(),
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat && !"[]".includes(event.key)) return;
    if (event.target.closest("input:not([type=checkbox]), select, textarea") && event.key !== "Escape") return;
    if (verdicts.has(event.key)) building.say(verdicts.get(event.key));
    else if (event.key in others) others[event.key]();
    else return;
    event.preventDefault();
  });
}

async function begin() {
  const [me, told] = await Promise.all([ask("/api/me"), ask(`/api/maps/${number}`)]);
  document.title = told.title;
  $("title").textContent = told.title;
  if (told.may_review && told.links.review) {
    $("review").href = told.links.review;
    $("review").hidden = false;
  }
  view = new View("map", told, { failed, recovered: () => tell("") });
  const swipe = new Swipe(view);
  const passed = [];
  const building = new Building(told, me, view, {
    said: (answer) => {
      if (answer) answers.take(answer);
      answers.read();
    },
    failed,
  });
  const answers = new Answers(told, view, {
    words,
    changed: (id) => {
      filter.answered();
      return building.changed(id);
    },
    failed,
  });
  const filter = new Filter(told, view, answers, failed);
  const open = (found, { go = false, keep = true } = {}) => {
    if (go) view.go(found.lon, found.lat);
    else if (!view.holds(found.lon, found.lat)) view.go(found.lon, found.lat, { near: false });
    if (keep) passed.push(found);
    building.open(found.id).catch(failed);
  };
  const next = () => {
    const now = passed.at(-1);
    const seen = new Set(passed.slice(-200).map(({ row }) => row));
    const found = view.nearest(building.id && now ? [now.lon, now.lat] : null, ({ id, row }) => !seen.has(row) && !answers.has(id));
    if (found) {
      tell("");
      open(found);
    } else tell("No building that nobody answered is left on the screen: move the map, or press h.");
  };
  const back = () => {
    if (passed.length < 2) return;
    passed.pop();
    open(passed.at(-1), { keep: false });
  };
  $("next").addEventListener("click", next);
  keys({ building, swipe, view, next, back });
  search(open);
  await view.ready;
  layers(told, view);
  hover(view, open);
  filter.apply();
  document.body.dataset.ready = "yes";
  if (told.links.answers) answers.follow();
  await view.drawn;
  document.body.dataset.drawn = "yes";
}

begin().catch((error) => {
  if (error.status === 401) location.replace(`/#${location.pathname}`);
  else failed(error);
});
