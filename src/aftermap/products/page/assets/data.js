// What the page holds: attributes and outlines as `compact.py` packs them, a spatial index, and the filter.
// World units are square on the ground: columns and rows of the grid, stretched where its pixels are not square.
const data = JSON.parse(document.getElementById("data").textContent);
const { grid, classes } = data;
const { bars, tinted } = data.objects ?? { bars: [], tinted: true };
const world = { width: grid.width * grid.stretch[0], height: grid.height * grid.stretch[1] };

async function unpack(text) {
  const deflated = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const length = new DataView(bytes.buffer).getUint32(0, true), arrays = {};
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  let at = 4 + length;
  for (const [name, size, items] of header.arrays) {
    const array = new Uint32Array(items);
    for (let plane = 0; plane < size; plane++) for (let i = 0; i < items; i++) array[i] += bytes[at++] * 256 ** plane;
    arrays[name] = array;
  }
  return { ...header, arrays };
}

const none = { count: 0, columns: {}, arrays: Object.fromEntries(["kinds", "rings", "points", "across", "down"].map((name) => [name, []])) };
const packed = data.objects ? await unpack(data.objects.packed) : none;
const { count, arrays } = packed;
const kindOf = Uint8Array.from(arrays.kinds);  // class or grade of each building
const MAKERS = {
  same: ({ value }) => () => value,
  serial: () => (b) => String(b + 1),
  values: ({ values }) => (b) => values[b],
  words: ({ words }, codes) => (b) => words[codes[b]],
  numbers: ({ decimals, low }, codes) => (b) => codes[b] ? (codes[b] - 1 + low) / 10 ** decimals : null,
};
const columns = Object.fromEntries(Object.entries(packed.columns).map(([name, told]) => [name, MAKERS[told.kind](told, arrays[`column ${name}`])]));
const idOf = columns.building_id ?? (() => ""), confidenceOf = columns.confidence ?? (() => null);

// Points of all rings one after the other: ring r takes [ringAt[r], ringAt[r + 1]), building b rings [firstRing[b], firstRing[b + 1]).
const sums = (items) => items.reduce((ends, value, i) => { ends[i + 1] = ends[i] + value; return ends; }, new Uint32Array(items.length + 1));
const firstRing = sums(arrays.rings), ringAt = sums(arrays.points);
const xs = new Float32Array(arrays.across.length), ys = new Float32Array(xs.length);
(() => {
  const step = (code) => code % 2 ? -(code + 1) / 2 : code / 2;
  let startX = 0, startY = 0;
  for (let r = 0; r < ringAt.length - 1; r++) {
    let x = startX, y = startY;
    for (let i = ringAt[r]; i < ringAt[r + 1]; i++) {
      x += step(arrays.across[i]); y += step(arrays.down[i]);
      if (i === ringAt[r]) { startX = x; startY = y; }
      xs[i] = x / 10 * grid.stretch[0];
      ys[i] = y / 10 * grid.stretch[1];
    }
  }
})();

const boxes = new Float32Array(4 * count);
for (let b = 0; b < count; b++) {
  let west = Infinity, north = Infinity, east = -Infinity, south = -Infinity;
  for (let i = ringAt[firstRing[b]]; i < ringAt[firstRing[b + 1]]; i++) {
    west = Math.min(west, xs[i]); east = Math.max(east, xs[i]);
    north = Math.min(north, ys[i]); south = Math.max(south, ys[i]);
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
    const confidence = filter.confidence ? confidenceOf(b) : null;
    shown[b] = filter.classes.has(kindOf[b]) && (confidence === null || confidence >= filter.confidence) ? 1 : 0;
    if (shown[b]) { tally.shown[kindOf[b]]++; tally.total++; }
  }
}

function contains(b, x, y) {
  let inside = false;
  for (let r = firstRing[b]; r < firstRing[b + 1]; r++) {
    for (let i = ringAt[r], j = ringAt[r + 1] - 1; i < ringAt[r + 1]; j = i++) {
      const crosses = (ys[i] > y) !== (ys[j] > y);
      if (crosses && x < (xs[j] - xs[i]) * (y - ys[i]) / (ys[j] - ys[i]) + xs[i]) inside = !inside;
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
  const place = (i) => {
    const point = lonLat(xs[i], ys[i]) ?? [xs[i] / grid.stretch[0], ys[i] / grid.stretch[1]];
    return [+point[0].toFixed(7), +point[1].toFixed(7)];
  };
  const turns = (r) => {
    let sum = 0;
    for (let i = ringAt[r], j = ringAt[r + 1] - 1; i < ringAt[r + 1]; j = i++) sum += xs[j] * ys[i] - xs[i] * ys[j];
    return Math.sign(sum);
  };
  const features = [];
  for (let b = 0; b < count; b++) {
    if (!shown[b]) continue;
    const polygons = [];
    for (let r = firstRing[b]; r < firstRing[b + 1]; r++) {
      const points = [];
      for (let i = ringAt[r]; i < ringAt[r + 1]; i++) points.push(place(i));
      points.push(points[0]);
      // Shells turn one way in the page's data and holes the other; a hole follows its shell.
      if (turns(r) === turns(firstRing[b])) polygons.push([points]);
      else polygons[polygons.length - 1].push(points);
    }
    const properties = Object.fromEntries(Object.entries(columns).map(([name, value]) => [name, value(b)]));
    const geometry = polygons.length === 1
      ? { type: "Polygon", coordinates: polygons[0] } : { type: "MultiPolygon", coordinates: polygons };
    features.push({ type: "Feature", properties, geometry });
  }
  const collection = { type: "FeatureCollection", name: "buildings", features };
  if (!grid.lonlat) collection.note = data.objects.pixel_note;
  return collection;
}
