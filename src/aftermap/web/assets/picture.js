// Draws a building: the picture of a date in a window of the map, outlines over it. All lengths are pixels of the map.

// how much of a picture is seen: less context to more
const STEPS = [
  { frame: "near", part: 0.16 },
  { frame: "near", part: 0.27 },
  { frame: "near", part: 0.43 },
  { frame: "near", part: 0.75 },
  { frame: "wide", part: 0.5 },
  { frame: "wide", part: 1 },
];

class View {
  // where a canvas looks: the middle of a building, so many pixels of the map across its shorter side
  constructor(canvas, item, step) {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const { frame, part } = STEPS[step];
    const [col, row, w, h] = item.frames[frame];
    Object.assign(this, { canvas, ratio, frame, width, height });
    this.middle = [col + w / 2, row + h / 2];
    this.scale = Math.min(width, height) / (Math.max(w, h) * part);
  }

  place([col, row]) {
    return [(col - this.middle[0]) * this.scale + this.width / 2, (row - this.middle[1]) * this.scale + this.height / 2];
  }

  // pixels of the map under a pointer
  under(event) {
    const box = this.canvas.getBoundingClientRect();
    return this.back([(event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio]);
  }

  back([x, y]) {
    return [(x - this.width / 2) / this.scale + this.middle[0], (y - this.height / 2) / this.scale + this.middle[1]];
  }

  picture(image, frame, { from = 0, to = 1 } = {}) {
    if (!(image instanceof HTMLCanvasElement) && !isLoaded(image)) return;
    const context = this.canvas.getContext("2d");
    const [left, top] = this.place([frame[0], frame[1]]);
    context.save();
    context.beginPath();
    context.rect(from * this.width, 0, (to - from) * this.width, this.height);
    context.clip();
    context.imageSmoothingQuality = "high";
    context.drawImage(image, left, top, frame[2] * this.scale, frame[3] * this.scale);
    context.restore();
  }

  clear() {
    const context = this.canvas.getContext("2d");
    context.fillStyle = "#0b1014";
    context.fillRect(0, 0, this.width, this.height);
  }

  rings(rings, { colour, width, casing = 0, dash = [], close = true, fill = null }) {
    const context = this.canvas.getContext("2d");
    context.beginPath();
    for (const ring of rings) {
      ring.forEach((point, at) => context[at ? "lineTo" : "moveTo"](...this.place(point)));
      if (close) context.closePath();
    }
    context.lineJoin = "round";
    context.setLineDash(dash.map((length) => length * this.ratio));
    if (fill) {
      context.fillStyle = fill;
      context.fill("evenodd");
    }
    if (casing) {
      context.strokeStyle = "rgba(0, 0, 0, 0.75)";
      context.lineWidth = (width + casing) * this.ratio;
      context.stroke();
    }
    context.strokeStyle = colour;
    context.lineWidth = width * this.ratio;
    context.stroke();
    context.setLineDash([]);
  }

  // buildings on the picture of the ground: those that somebody looked at are full
  dots(dots) {
    const context = this.canvas.getContext("2d");
    const size = Math.min(5, Math.max(1.5, 1200 / Math.sqrt(dots.length + 1) / 12)) * this.ratio;
    context.lineWidth = this.ratio;
    for (const [col, row, seen] of dots) {
      context.beginPath();
      context.arc(...this.place([col, row]), size, 0, 2 * Math.PI);
      context.fillStyle = seen ? "#45e07f" : "rgba(8, 12, 16, 0.35)";
      context.fill();
      context.strokeStyle = seen ? "#06250f" : "#ffffff";
      context.stroke();
    }
  }

  words(text) {
    const context = this.canvas.getContext("2d");
    context.font = `${15 * this.ratio}px system-ui, sans-serif`;
    context.fillStyle = "#b4c2cf";
    context.fillText(text, 16 * this.ratio, 60 * this.ratio);
  }

  cross(point) {
    const [x, y] = this.place(point);
    const [arm, context] = [12 * this.ratio, this.canvas.getContext("2d")];
    for (const [colour, width] of [["#000000", 4], ["#ffffff", 1.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = width * this.ratio;
      context.beginPath();
      context.moveTo(x - arm, y);
      context.lineTo(x + arm, y);
      context.moveTo(x, y - arm);
      context.lineTo(x, y + arm);
      context.stroke();
    }
  }

  corners(points, colour) {
    const context = this.canvas.getContext("2d");
    for (const point of points) {
      const [x, y] = this.place(point);
      context.beginPath();
      context.arc(x, y, 5 * this.ratio, 0, 2 * Math.PI);
      context.fillStyle = colour;
      context.fill();
      context.lineWidth = 2 * this.ratio;
      context.strokeStyle = "#000000";
      context.stroke();
    }
  }

  // a bar of a round number of metres
  ruler(metres) {
    if (!metres) return;
    const across = (this.width / this.scale) * metres * 0.3;
    const power = 10 ** Math.floor(Math.log10(across));
    const length = [5, 2, 1].map((times) => times * power).find((each) => each <= across) ?? power;
    const context = this.canvas.getContext("2d");
    const [x, y] = [12 * this.ratio, this.height - 12 * this.ratio];
    const right = x + (length / metres) * this.scale;
    for (const [colour, width] of [["rgba(0, 0, 0, 0.8)", 5], ["#ffffff", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = width * this.ratio;
      context.beginPath();
      context.moveTo(x, y - 5 * this.ratio);
      context.lineTo(x, y);
      context.lineTo(right, y);
      context.lineTo(right, y - 5 * this.ratio);
      context.stroke();
    }
    context.font = `600 ${12 * this.ratio}px system-ui, sans-serif`;
    context.lineWidth = 3 * this.ratio;
    context.strokeStyle = "rgba(0, 0, 0, 0.8)";
    context.strokeText(`${length} m`, x, y - 9 * this.ratio);
    context.fillStyle = "#ffffff";
    context.fillText(`${length} m`, x, y - 9 * this.ratio);
  }
}

const moved = (rings, dx, dy) => rings.map((ring) => ring.map(([x, y]) => [x + dx, y + dy]));

function holds(rings, [x, y]) {
  let inside = false;
  for (const ring of rings) {
    for (let i = 0, j = ring.length - 1; i < ring.length; j = i++) {
      const [[xi, yi], [xj, yj]] = [ring[i], ring[j]];
      if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
    }
  }
  return inside;
}
