// What the page holds: columns of attributes, outlines in world units, a spatial index, and the filter.
// World units are square on the ground: columns and rows of the grid, stretched where its pixels are not square.
const data = JSON.parse(document.getElementById("data").textContent);
const { grid, classes } = data;
const { columns, kinds, outlines, bars, tinted } = data.objects ?? { columns: { building_id: [], confidence: [] }, kinds: [], outlines: [], bars: [] };
const ids = columns.building_id;
const count = ids.length;
const kindOf = Uint8Array.from(kinds);  // class or grade of each building
const confidenceOf = columns.confidence;
const world = { width: grid.width * grid.stretch[0], height: grid.height * grid.stretch[1] };

// Outlines travel as tenths of a pixel, each ring as a first point followed by steps.
const rings = outlines.map((outline) => outline.map((steps) => {
  const ring = new Float64Array(steps.length);
  let x = 0, y = 0;
  for (let i = 0; i < steps.length; i += 2) {
    x += steps[i]; y += steps[i + 1];
    ring[i] = x / 10 * grid.stretch[0];
    ring[i + 1] = y / 10 * grid.stretch[1];
  }
  return ring;
}));

const boxes = new Float64Array(4 * count);
for (let b = 0; b < count; b++) {
  let west = Infinity, north = Infinity, east = -Infinity, south = -Infinity;
  for (const ring of rings[b]) for (let i = 0; i < ring.length; i += 2) {
    west = Math.min(west, ring[i]); east = Math.max(east, ring[i]);
    north = Math.min(north, ring[i + 1]); south = Math.max(south, ring[i + 1]);
  }
  boxes.set([west, north, east, south], 4 * b);
}

const index = (() => {
  const side = 96, cell = Math.max(world.width, world.height) / side;
  const cells = new Map();
  const at = (value) => Math.max(0, Math.min(side - 1, Math.floor(value / cell)));
  for (let b = 0; b < count; b++) {
    for (let row = at(boxes[4 * b + 1]); row <= at(boxes[4 * b + 3]); row++) {
      for (let col = at(boxes[4 * b]); col <= at(boxes[4 * b + 2]); col++) {
        const key = row * side + col;
        if (!cells.has(key)) cells.set(key, []);
        cells.get(key).push(b);
      }
    }
  }
  const seen = new Uint32Array(count);
  let stamp = 0;
  // Calls visit(building) once for each building whose box may touch the given one.
  return (west, north, east, south, visit) => {
    stamp++;
    for (let row = at(north); row <= at(south); row++) {
      for (let col = at(west); col <= at(east); col++) {
        for (const b of cells.get(row * side + col) ?? []) {
          if (seen[b] === stamp) continue;
          seen[b] = stamp;
          const k = 4 * b;
          if (boxes[k] <= east && boxes[k + 2] >= west && boxes[k + 1] <= south && boxes[k + 3] >= north) visit(b);
        }
      }
    }
  };
})();

const filter = { classes: new Set(classes.keys()), confidence: 0 };
const shown = new Uint8Array(count);
const tally = { all: new Array(classes.length).fill(0), shown: new Array(classes.length).fill(0), total: 0 };
for (const kind of kindOf) tally.all[kind]++;

// Buildings that were not assessed have no confidence; only their own class box hides them.
function applyFilter() {
  tally.shown.fill(0);
  tally.total = 0;
  for (let b = 0; b < count; b++) {
    const sure = confidenceOf[b] === null || confidenceOf[b] >= filter.confidence;
    shown[b] = filter.classes.has(kindOf[b]) && sure ? 1 : 0;
    if (shown[b]) { tally.shown[kindOf[b]]++; tally.total++; }
  }
}

function contains(b, x, y) {
  let inside = false;
  for (const ring of rings[b]) {
    for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) {
      const crosses = (ring[i + 1] > y) !== (ring[j + 1] > y);
      if (crosses && x < (ring[j] - ring[i]) * (y - ring[i + 1]) / (ring[j + 1] - ring[i + 1]) + ring[i]) inside = !inside;
    }
  }
  return inside;
}

// The shown building at a point of the world; near misses count within `reach`. -1 where there is none.
function buildingAt(x, y, reach) {
  let best = -1, nearest = Infinity, smallest = Infinity;
  index(x - reach, y - reach, x + reach, y + reach, (b) => {
    if (!shown[b]) return;
    const k = 4 * b, size = (boxes[k + 2] - boxes[k]) * (boxes[k + 3] - boxes[k + 1]);
    const dx = Math.max(boxes[k] - x, 0, x - boxes[k + 2]), dy = Math.max(boxes[k + 1] - y, 0, y - boxes[k + 3]);
    const distance = contains(b, x, y) ? -1 : Math.hypot(dx, dy);
    if (distance >= 0 && (dx === 0 && dy === 0 && size > 4 * reach * reach || distance > reach)) return;
    if (distance < nearest || (distance === nearest && size < smallest)) { best = b; nearest = distance; smallest = size; }
  });
  return best;
}

// Longitude and latitude from a table over the grid, linear between its nodes; null for plain images.
function lonLat(x, y) {
  const table = grid.lonlat;
  if (!table) return null;
  const last = table.side - 1;
  const u = x / world.width * last, v = y / world.height * last;
  const col = Math.max(0, Math.min(last - 1, Math.floor(u))), row = Math.max(0, Math.min(last - 1, Math.floor(v)));
  const s = u - col, t = v - row, k = row * table.side + col;
  const mix = (a) => (a[k] * (1 - s) + a[k + 1] * s) * (1 - t) + (a[k + table.side] * (1 - s) + a[k + table.side + 1] * s) * t;
  const lon = mix(table.lon);
  return [lon > 180 ? lon - 360 : lon, mix(table.lat)];
}

function toGeoJson() {
  const place = (x, y) => {
    const point = lonLat(x, y) ?? [x / grid.stretch[0], y / grid.stretch[1]];
    return [+point[0].toFixed(7), +point[1].toFixed(7)];
  };
  const twiceArea = (ring) => {
    let sum = 0;
    for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) sum += ring[j] * ring[i + 1] - ring[i] * ring[j + 1];
    return sum;
  };
  const features = [];
  for (let b = 0; b < count; b++) {
    if (!shown[b]) continue;
    const polygons = [];
    for (const ring of rings[b]) {
      const points = [];
      for (let i = 0; i < ring.length; i += 2) points.push(place(ring[i], ring[i + 1]));
      points.push(points[0]);
      // Shells turn one way in the page's data and holes the other; a hole follows its shell.
      if (Math.sign(twiceArea(ring)) === Math.sign(twiceArea(rings[b][0]))) polygons.push([points]);
      else polygons[polygons.length - 1].push(points);
    }
    const properties = {};
    for (const name of Object.keys(columns)) properties[name] = columns[name][b];
    const geometry = polygons.length === 1
      ? { type: "Polygon", coordinates: polygons[0] } : { type: "MultiPolygon", coordinates: polygons };
    features.push({ type: "Feature", properties, geometry });
  }
  const collection = { type: "FeatureCollection", name: "buildings", features };
  if (!grid.lonlat) collection.note = data.objects.pixel_note;
  return collection;
}
