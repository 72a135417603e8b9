// Several dates: a slider that shows the state of every building, the picture and the counts of one of them.
const times = data.times, byName = new Map(classes.map(({ name }, kind) => [name, kind]));
const stateAt = times.columns.map((name) => Uint8Array.from({ length: count }, (_, b) => byName.get(columns[name](b)) ?? classes.length - 1));
const picturesAt = data.times.tiles.map((list) => list?.map((tile) => Object.assign({ ...tile }, { image: Object.assign(new Image(), { src: tile.src }) })));
let shownTime = -1;

function showTime(at) {
  const time = Math.max(0, Math.min(times.labels.length - 1, at));
  if (time === shownTime) return;
  shownTime = time;
  kindOf.set(stateAt[time]);
  tally.all.fill(0);
  for (const kind of kindOf) tally.all[kind]++;
  const assessed = classes.reduce((sum, entry, kind) => sum + (entry.assessed ? tally.all[kind] : 0), 0);
  find("shares").replaceChildren();
  for (const [kind, label] of [...find("legend").children].entries()) {
    const share = classes[kind].assessed && assessed ? tally.all[kind] / assessed : 0;
    label.querySelector(".share").textContent = classes[kind].assessed && assessed ? `${(100 * share).toFixed(1)} %` : "";
    if (share) find("shares").append(element("i", "", { style: { flexGrow: share, background: classes[kind].colour } }));
  }
  const [amount, text] = times.headlines[time];
  find("headline").replaceChildren(element("b", amount), text);
  find("time-label").textContent = times.labels[time];
  find("time-new").textContent = times.notes[time];
  find("time").value = time;
  find("time").setAttribute("aria-valuetext", `${times.labels[time]}, ${times.notes[time]}`);
  find("label-post").textContent = `After · ${times.labels[time]}`;
  if (picturesAt[time]) tiles.post = picturesAt[time];
  sorted.clear();
  refresh();
  placeLabels();
  if (state.selected >= 0) select(state.selected);
  redraw("base", "overlay");
}

find("times").hidden = false;
find("map").classList.add("timed");
find("time").max = times.labels.length - 1;
find("time").addEventListener("input", (event) => showTime(Number(event.target.value)));
find("time-back").addEventListener("click", () => showTime(shownTime - 1));
find("time-on").addEventListener("click", () => showTime(shownTime + 1));
for (const list of picturesAt) for (const { image } of list ?? []) image.decode().then(() => redraw("base"));
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  const by = { "[": -1, "]": 1 }[event.key];
  if (by) showTime(shownTime + by);
});
showTime(times.labels.length - 1);
Object.defineProperties(window.aftermap, Object.getOwnPropertyDescriptors({
  get time() { return shownTime; },
  showTime,
  get counts() { return Object.fromEntries(classes.map(({ name }, kind) => [name, tally.all[kind]])); },
}));
