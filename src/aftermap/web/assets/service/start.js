// What a browser sees first: sign in, upload, follow, open.
import { $, ask as asked, element, send as sent, tell } from "./api.js";

const STAGES = { predicting: "Looking for buildings and damage", writing: "Writing the map", tiles: "Making tiles", learning: "Learning from the answers" };
const ENDED = ["done", "failed", "cancelled"];
const streams = new Map();

// whoever is not signed in any more is asked to
function signedIn(error) {
  if (error.status === 401) show(null);
  throw error;
}

const ask = (path) => asked(path).catch(signedIn);
const send = (path, method, tree) => sent(path, method, tree).catch(signedIn);

function upload(file, kind, label) {
  // not fetch: it does not say how far an upload is
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/uploads?kind=${kind}&name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("content-type", "application/octet-stream");
    request.upload.onprogress = (event) => {
      $("upload").value = event.total ? event.loaded / event.total : 0;
      $("uploading").textContent = `${label}: ${(event.loaded / 1e6).toFixed(1)} of ${(event.total / 1e6).toFixed(1)} MB`;
    };
    request.onerror = () => failed(new Error(`${file.name} did not arrive: try again`));
    request.onload = () => {
      let tree = {};
      try { tree = JSON.parse(request.responseText); } catch { /* told below */ }
      if (request.status === 201) done(tree.id);
      else failed(new Error(tree.error || `The service answered ${request.status}`));
    };
    request.send(file);
  });
}

function jobRow(job) {
  const row = $(`job-${job.id}`) || element("li", "", { id: `job-${job.id}` });
  row.replaceChildren();
  const top = element("div", "", { class: "row" });
  top.append(element("strong", job.wanted.title || "Map"));
  const stage = job.progress ? job.progress.stage : "";
  const words = { queued: "Waits for a worker", running: job.stopping ? "Is being cancelled" : STAGES[stage] || stage || "Begins", failed: "Failed", cancelled: "Cancelled", done: "Done" };
  top.append(element("span", words[job.state], { class: "soft", role: "status" }));
  const act = (text, work) => {
    const button = element("button", text);
    button.addEventListener("click", () => work().then(() => refresh()).catch((error) => tell(error.message)));
    top.append(button);
  };
  if (!ENDED.includes(job.state)) act("Cancel", () => send(`/api/jobs/${job.id}/cancel`, "POST"));
  if (["failed", "cancelled"].includes(job.state)) {
    act("Try again", () => send(`/api/jobs/${job.id}/retry`, "POST"));
    act("Remove", () => send(`/api/jobs/${job.id}`, "DELETE"));
  }
  row.append(top);
  if (job.error) row.append(element("p", job.error, { class: "soft" }));
  if (job.state === "running") {
    const bar = element("progress", "", { max: 1, "aria-label": words.running });
    if (job.progress && job.progress.total) bar.value = job.progress.done / job.progress.total;
    row.append(bar);
  }
  return row;
}

function follow(job) {
  if (streams.has(job.id) || ENDED.includes(job.state)) return;
  const stream = new EventSource(`/api/jobs/${job.id}/events`);
  streams.set(job.id, stream);
  stream.addEventListener("job", (event) => {
    const now = JSON.parse(event.data);
    const row = $(`job-${now.id}`);
    if (row) jobRow(now);
    if (!ENDED.includes(now.state)) return;
    stream.close();
    streams.delete(now.id);
    refresh().catch((error) => tell(error.message));
  });
}

// what is told of a map takes the server a moment: asked for when it is seen, and once
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    ask(`/api/maps/${target.dataset.map}`).then((told) => fill(target, told)).catch((error) => {
      target.append(element("p", error.message, { class: "soft" }));
    });
  }
}, { rootMargin: "200px" });

function mapRow(map) {
  const known = $(`map-${map.id}`);
  if (known) return known;
  const row = element("li", "", { id: `map-${map.id}`, "data-map": map.id });
  const top = element("div", "", { class: "row" });
  top.append(element("strong", map.title), element("span", new Date(map.created * 1000).toLocaleString(), { class: "soft" }));
  const links = element("div", "", { class: "row links" });
  links.append(element("a", "Look", { class: "button main", href: `/maps/${map.id}` }));
  row.append(top, links);
  seen.observe(row);
  return row;
}

function fill(row, told) {
  const links = row.querySelector(".links");
  const bar = element("div", "", { class: "counts", "aria-hidden": "true" });
  const parts = [];
  for (const { name, colour } of told.legend) {
    const count = told.counts[name] || 0;
    if (!count) continue;
    const part = element("span");
    part.style.flexGrow = count;
    part.style.background = colour;
    bar.append(part);
    parts.push(`${count.toLocaleString()} ${name}`);
  }
  links.before(bar, element("p", `${told.total.toLocaleString()} buildings: ${parts.join(", ") || "none"}`, { class: "soft" }));
  if (told.may_review && told.links.review) links.append(element("a", "Review", { class: "button", href: told.links.review }));
  if (told.links["files.zip"]) links.append(element("a", "Files", { class: "button", href: told.links["files.zip"] }));
  if (!told.whole) links.append(element("span", "You see the part of it that lies in your area.", { class: "soft" }));
}

async function refresh() {
  const [jobs, maps] = await Promise.all([ask("/api/jobs?limit=50"), ask("/api/maps?limit=50")]);
  const open = jobs.filter((job) => !ENDED.includes(job.state));
  for (const [id, some] of [["jobs", open], ["ended", jobs.filter((job) => ["failed", "cancelled"].includes(job.state))]]) {
    $(id).hidden = some.length === 0;
    $(id).querySelector("ul").replaceChildren(...some.map(jobRow));
  }
  open.slice(0, 4).forEach(follow);
  const rows = maps.map(mapRow);
  $("none").hidden = rows.length > 0;
  $("maps").querySelector("ul").replaceChildren(...rows);
}

function show(me) {
  $("sign-in").hidden = me !== null;
  for (const id of ["new", "maps"]) $(id).hidden = me === null;
  for (const id of ["jobs", "ended"]) $(id).hidden = true; // until it is known whether there are any
  $("sign-out").hidden = me === null || !me.tokens;
  $("who").textContent = me !== null && me.tokens ? me.name : "";
  if (me === null) {
    for (const stream of streams.values()) stream.close();
    streams.clear();
    $("maps").querySelector("ul").replaceChildren();
    $("token").focus();
    return;
  }
  $("new").hidden = !me.scopes.includes("map");
  $("model").replaceChildren(...me.models.map((name) => element("option", name, { value: name })));
  if (me.models.includes("box")) $("model").value = "box";
}

async function begin() {
  try {
    show(await ask("/api/me"));
    await refresh();
  } catch (error) {
    if (error.status !== 401) tell(error.message);
  }
}

$("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await send("/api/session", "POST", { token: $("token").value.trim() });
    $("token").value = "";
    tell("");
    if (/^#\/maps\/[0-9a-f]{32}$/.test(location.hash)) return location.assign(location.hash.slice(1));
    await begin();
  } catch (error) {
    tell(error.message);
  }
});

$("sign-out").addEventListener("click", async () => {
  try {
    await send("/api/session", "DELETE");
  } finally {
    show(null);
  }
});

$("new").addEventListener("submit", async (event) => {
  event.preventDefault();
  tell("");
  $("go").disabled = true;
  $("upload").hidden = false;
  try {
    const wanted = { title: $("title").value, model: $("model").value };
    for (const [name, kind, label] of [["pre", "image", "Before"], ["post", "image", "After"], ["footprints", "vectors", "Footprints"]]) {
      const file = $(name).files[0];
      if (file) wanted[name] = await upload(file, kind, label);
    }
    await send("/api/jobs", "POST", wanted);
    $("new").reset();
    await refresh();
  } catch (error) {
    tell(error.message);
  } finally {
    $("go").disabled = false;
    $("upload").hidden = true;
    $("uploading").textContent = "";
  }
});

begin();
