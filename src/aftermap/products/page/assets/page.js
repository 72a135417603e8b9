// What the panels of all pages share. Text only ever enters as text.
const find = (id) => document.getElementById(id);
const number = (value, digits = 0) => value.toLocaleString("en", { maximumFractionDigits: digits });

function element(name, content = "", options = {}) {
  const { style, ...rest } = options;
  const made = Object.assign(document.createElement(name), rest);
  if (style) Object.assign(made.style, style);
  if (Array.isArray(content)) made.append(...content); else made.textContent = content;
  return made;
}

function fold(folded) {
  find("panel").classList.toggle("folded", folded);
  find("fold").setAttribute("aria-expanded", String(!folded));
}
