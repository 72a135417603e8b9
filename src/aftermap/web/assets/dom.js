// What every part uses: elements, small makers, and the words for verdicts.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name === "onclick") element.addEventListener("click", value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// a finger: no keys to speak of, and nothing is hit to the pixel
const isTouch = () => matchMedia("(pointer: coarse)").matches;

const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((n) => n.toString(16).padStart(2, "0")).join("");

// localStorage is not there in every mode of every browser: then nothing is remembered, and the page works
const memory = {
  read(name, fallback = null) {
    try {
      const text = localStorage.getItem(`aftermap-${name}`);
      return text === null ? fallback : JSON.parse(text);
    } catch {
      return fallback;
    }
  },
  write(name, value) {
    try {
      localStorage.setItem(`aftermap-${name}`, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  },
};

const VERDICTS = [
  { key: "1", name: "no-damage", label: "No damage", about: "Intact: no sign of harm to roof or walls." },
  { key: "2", name: "minor-damage", label: "Minor", about: "Roof elements missing, visible cracks, water or burn marks around it." },
  { key: "3", name: "major-damage", label: "Major", about: "Part of the roof or a wall has collapsed, or water stands around it." },
  { key: "4", name: "destroyed", label: "Destroyed", about: "Collapsed, burnt out, washed away or gone." },
  { key: "0", name: "not-a-building", label: "Not a building", about: "What the outline means never was one: a car, a court, a field." },
  { key: "u", name: "cannot-tell", label: "Cannot tell", about: "Hidden or unclear; you are asked why." },
];
// of the image after alone: the degrees short of destroyed are one answer, on the keys that they have elsewhere
const ONE_IMAGE_VERDICTS = [
  { key: "1", name: "not-destroyed", label: "Not destroyed", about: "It stands, damaged or not: lesser damage is not asked." },
  ...VERDICTS.slice(3),
];
const REASONS = [
  { key: "1", name: "cloud", label: "Cloud" },
  { key: "2", name: "shadow", label: "Shadow" },
  { key: "3", name: "no data", label: "No data" },
  { key: "4", name: "outside", label: "Outside" },
  { key: "5", name: "misaligned", label: "Misaligned" },
  { key: "6", name: "other", label: "Other" },
];
const ORIGINS = {
  sample: ["Random sample", "Drawn at random: it counts for the totals"],
  active: ["Picked for the model", "The model learns most from this one"],
  chosen: ["Looked up", "You asked for this one"],
  drawn: ["Drawn", "The map misses this one"],
};

const labelOf = (verdict) => [...VERDICTS, ...ONE_IMAGE_VERDICTS].find((each) => each.name === verdict)?.label ?? verdict;

// a colour to write with on a background
function inkOn(colour) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b > 110 ? "#10181f" : "#ffffff";
}
