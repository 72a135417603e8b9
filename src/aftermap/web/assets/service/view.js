// The map on the screen: images of both dates with a border between them, buildings, areas.
import { Map as Canvas, NavigationControl, ScaleControl } from "./maplibre-gl.mjs";

const SHOWN = ["points", "outlines"];
const BUILDINGS = [...SHOWN, "borders"];
// from here on houses are large enough for a border, and are not filled any more, so that they can be seen themselves
const NEAR = 17;
// the worst lies above the others where points cover one another
const WORST_LAST = ["not-assessed", "no-damage", "minor-damage", "major-damage", "destroyed"];
const TOUCH_PX = 14;
const MOUSE_PX = 3;
const STEP_PX = [60, 180, 500, 2000];
const MOST_ASKED = 4000;
const PATIENCE_SECONDS = [2, 4, 8, 15, 30];
const NEUTRAL = "#9aa7b3";
const NOTHING = { type: "FeatureCollection", features: [] };

const here = (path) => new URL(path, location.origin).href.replaceAll("%7B", "{").replaceAll("%7D", "}");

export class View {
  // told: the map as the API describes it
  // failed, recovered: called when a part of it does not arrive, and when all of it has
  constructor(container, told, { failed, recovered }) {
    this.told = told;
    this.lost = new Set();
    this.waits = false;
    this.tries = 0;
    this.border = 0.5;
    this.bounds = told.bounds;
    this.dates = ["pre", "post"].every((name) => name in told.layers);
    const least = told.buildings.minzoom;
    this.canvas = new Canvas({
      container,
      style: this.style(),
      bounds: this.bounds,
      fitBoundsOptions: { padding: 20 },
      minZoom: least,
      maxZoom: 23,
      attributionControl: false,
      renderWorldCopies: false,
      dragRotate: false,
      pitchWithRotate: false,
      touchPitch: false,
      fadeDuration: 0,
      maxTileCacheZoomLevels: 3,
    });
    this.canvas.touchZoomRotate.disableRotation();
    this.canvas.keyboard.disableRotation();
    this.canvas.addControl(new NavigationControl({ showCompass: false }), "top-right");
    if (told.georeferenced) this.canvas.addControl(new ScaleControl(), "bottom-left");
    this.canvas.on("error", (event) => {
      if (!event.tile) return failed(event.error);
      this.lost.add(event.sourceId);
      if (this.waits) return undefined;
      this.waits = true;
      failed(new Error("A part of the map did not arrive: it is asked for again."));
      const seconds = PATIENCE_SECONDS[Math.min(this.tries++, PATIENCE_SECONDS.length - 1)];
      return setTimeout(() => this.askAgain(), seconds * 1000);
    });
    this.canvas.on("idle", () => {
      if (!this.tries || this.waits) return;
      this.tries = 0;
      recovered();
    });
    this.drawn = new Promise((done) => this.canvas.once("load", done));
    this.ready = new Promise((done) => this.canvas.once("style.load", () => {
      // a style may not hold layers that draw themselves
      if (this.dates) {
        this.canvas.addLayer(this.clip("cut", true), "pre");
        this.canvas.addLayer(this.clip("uncut", false), "damage" in told.layers ? "damage" : "areas");
      }
      done();
    }));
  }

  // all tiles of a source: those that are there come from the browser's cache. To name those that are lost, as
  // `refreshTiles` lets us, fails for images in MapLibre 6.17 when it draws them
  askAgain() {
    const lost = [...this.lost];
    this.lost.clear();
    this.waits = false;
    for (const name of lost) this.canvas.refreshTiles(name);
  }

  style() {
    const { layers, buildings, bounds } = this.told;
    const sources = {
      buildings: { type: "vector", tiles: [here(buildings.tiles)], minzoom: buildings.minzoom, maxzoom: buildings.maxzoom, bounds, promoteId: "row" },
      areas: { type: "geojson", data: NOTHING },
      chosen: { type: "geojson", data: NOTHING },
    };
    for (const [name, layer] of Object.entries(layers))
      sources[name] = { type: "raster", tiles: [here(layer.tiles)], minzoom: layer.minzoom, maxzoom: layer.maxzoom, tileSize: 256, bounds };
    const raster = (name, more = {}) => ({ id: name, type: "raster", source: name, paint: { "raster-fade-duration": 0, ...more }, layout: {} });
    const images = ["post", "pre"].filter((name) => name in layers).map((name) => raster(name));
    const pixels = raster("damage", { "raster-opacity": 0.6 });
    pixels.layout.visibility = "none";
    const colour = this.colour();
    const said = ["to-boolean", ["feature-state", "said"]];
    const from = { source: "buildings", "source-layer": buildings.layer };
    const zoomed = (far, near) => ["interpolate", ["linear"], ["zoom"], buildings.minzoom, far, buildings.outlines_from, near];
    const outlines = { ...from, minzoom: buildings.outlines_from };
    const points = { ...from, maxzoom: buildings.outlines_from };
    return {
      version: 8,
      sources,
      layers: [
        { id: "ground", type: "background", paint: { "background-color": "#10161c" } },
        ...images,
        ...("damage" in layers ? [pixels] : []),
        { id: "areas", type: "fill", source: "areas", paint: { "fill-color": this.shares(), "fill-opacity": 0.55, "fill-outline-color": "#10161c" } },
        { id: "points", type: "circle", ...points, layout: { "circle-sort-key": ["index-of", ["get", "damage"], ["literal", WORST_LAST]] }, paint: { "circle-color": colour, "circle-radius": zoomed(1.3, 3.5), "circle-stroke-color": "#ffffff", "circle-stroke-width": ["case", said, 1, 0] } },
        { id: "outlines", type: "fill", ...outlines, paint: { "fill-color": colour, "fill-antialias": false, "fill-opacity": ["step", ["zoom"], 0.7, NEAR, 0] } },
        { id: "borders", type: "line", ...outlines, minzoom: NEAR, paint: { "line-color": colour, "line-width": ["case", said, 3.5, 1.8] } },
        { id: "chosen-point", type: "circle", source: "chosen", maxzoom: buildings.outlines_from, filter: ["==", ["geometry-type"], "Point"], paint: { "circle-color": "transparent", "circle-radius": 8, "circle-stroke-color": "#ffe14d", "circle-stroke-width": 3 } },
        { id: "chosen", type: "line", source: "chosen", minzoom: buildings.outlines_from, paint: { "line-color": "#ffe14d", "line-width": 4, "line-offset": -3 } },
      ],
    };
  }

  // everything between the two is drawn left of the border alone
  clip(id, on) {
    return {
      id,
      type: "custom",
      render: (gl) => {
        if (!on) return gl.disable(gl.SCISSOR_TEST);
        gl.enable(gl.SCISSOR_TEST);
        gl.scissor(0, 0, Math.round(gl.drawingBufferWidth * this.border), gl.drawingBufferHeight);
      },
    };
  }

  // what people said stands before what the map says
  colour() {
    const pairs = this.told.legend.flatMap(({ name, colour }) => [name, colour]);
    return ["match", ["coalesce", ["feature-state", "said"], ["get", "damage"]], ...pairs, NEUTRAL];
  }

  shares() {
    const share = ["coalesce", ["get", "damaged_share"], -1];
    return ["case", ["<", share, 0], NEUTRAL, ["interpolate", ["linear"], share, 0, "#fff7bc", 0.25, "#fec44f", 0.6, "#d95f0e", 1, "#7f1d00"]];
  }

  // 0 shows the image from after alone, 1 that from before
  divide(share) {
    this.border = share;
    this.canvas.triggerRepaint();
  }

  // said: what was said of a building, by its row, stands before what the map says of it; `any` lets all of them through
  filter({ classes, confidence, area, any }, said) {
    const rules = ["all"];
    if (!any) {
      const rows = new Map();
      for (const [row, verdict] of said) rows.set(verdict, [...(rows.get(verdict) ?? []), row]);
      const spoken = [...rows].flatMap(([verdict, some]) => [some, verdict]);
      const what = spoken.length ? ["match", ["get", "row"], ...spoken, ["get", "damage"]] : ["get", "damage"];
      rules.push(["in", what, ["literal", classes]]);
    }
    if (confidence[0] > 0 || confidence[1] < 1) {
      // one without confidence was not assessed: no limit lets it through
      const known = ["coalesce", ["get", "confidence"], -1];
      rules.push([">=", known, confidence[0]], ["<=", known, confidence[1]]);
    }
    if (area > 0) rules.push([">=", ["coalesce", ["get", "area_m2"], 0], area]);
    for (const layer of BUILDINGS) this.canvas.setFilter(layer, rules.length > 1 ? rules : null);
  }

  visible(names, on) {
    for (const name of names) if (this.canvas.getLayer(name)) this.canvas.setLayoutProperty(name, "visibility", on ? "visible" : "none");
  }

  showBuildings(on) {
    this.visible([...BUILDINGS, "chosen", "chosen-point"], on);
  }

  showPixels(on) {
    this.visible(["damage"], on);
  }

  showAreas(tree) {
    this.canvas.getSource("areas").setData(tree ?? NOTHING);
  }

  say(row, verdict) {
    const feature = { source: "buildings", sourceLayer: this.told.buildings.layer, id: row };
    if (verdict === null) this.canvas.removeFeatureState(feature, "said");
    else this.canvas.setFeatureState(feature, { said: verdict });
  }

  // found: a building as the API tells it, or null
  choose(found) {
    const part = (geometry) => ({ type: "Feature", properties: {}, geometry });
    const features = found ? [part(found.geometry), part({ type: "Point", coordinates: [found.lon, found.lat] })] : [];
    this.ready.then(() => this.canvas.getSource("chosen").setData({ type: "FeatureCollection", features }));
  }

  // buildings under a place of the screen, the nearest first; none is drawn twice where tiles meet
  at(point, reach) {
    const box = [[point.x - reach, point.y - reach], [point.x + reach, point.y + reach]];
    const found = new Map();
    for (const feature of this.canvas.queryRenderedFeatures(box, { layers: SHOWN })) {
      if (found.size > MOST_ASKED) break;
      const [x, y] = middle(feature.geometry);
      const { x: across, y: down } = this.canvas.project([x, y]);
      const far = Math.hypot(across - point.x, down - point.y);
      const known = found.get(feature.properties.row);
      if (!known || far < known.far) found.set(feature.properties.row, { ...feature.properties, lon: x, lat: y, far });
    }
    return [...found.values()].sort((a, b) => a.far - b.far);
  }

  under(point, touch = false) {
    return this.at(point, touch ? TOUCH_PX : MOUSE_PX)[0] ?? null;
  }

  // properties of the area under a place of the screen
  areaAt(point) {
    return this.canvas.queryRenderedFeatures(point, { layers: ["areas"] })[0]?.properties ?? null;
  }

  // the building nearest to a place that passes a test, as far as the screen reaches
  nearest(place, test) {
    const box = this.canvas.getContainer();
    const point = place ? this.canvas.project(place) : { x: box.clientWidth / 2, y: box.clientHeight / 2 };
    for (const reach of STEP_PX) {
      const found = this.at(point, reach).find(test);
      if (found) return found;
    }
    return null;
  }

  go(lon, lat, { near = true } = {}) {
    const zoom = near ? Math.max(this.canvas.getZoom(), this.close()) : this.canvas.getZoom();
    this.canvas.easeTo({ center: [lon, lat], zoom, duration: 300 });
  }

  // so that a pixel of the images is about one of the screen
  close() {
    const most = Math.max(...["post", "pre", "damage"].map((name) => this.told.layers[name]?.maxzoom ?? 0));
    return Math.max(this.told.buildings.outlines_from, most - 1);
  }

  holds(lon, lat) {
    return this.canvas.getBounds().contains([lon, lat]);
  }

  everything() {
    this.canvas.fitBounds(this.bounds, { padding: 20, duration: 300 });
  }
}

function middle(geometry) {
  if (geometry.type === "Point") return geometry.coordinates;
  const ring = geometry.type === "Polygon" ? geometry.coordinates[0] : geometry.coordinates[0][0];
  let [west, south, east, north] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of ring) {
    west = Math.min(west, x);
    east = Math.max(east, x);
    south = Math.min(south, y);
    north = Math.max(north, y);
  }
  return [(west + east) / 2, (south + north) / 2];
}
