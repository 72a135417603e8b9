// What both pages of the service use: asking the API, and making elements. All of it is text: nothing that a user sent becomes markup.

export const $ = (id) => document.getElementById(id);

export function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

export function tell(text) {
  $("told").textContent = text;
  $("told").hidden = !text;
}

// the answer's tree, or an error in words with the `status` of the answer; without one nothing arrived
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Error("The service does not answer. Is it running, and are you online?");
  }
  if (answer.status === 204 || answer.status === 304) return null;
  const tree = await answer.json().catch(() => ({ error: `The service answered ${answer.status}` }));
  if (!answer.ok) throw Object.assign(new Error(tree.error || `The service answered ${answer.status}`), { status: answer.status });
  return tree;
}

export const send = (path, method, tree, headers = {}) =>
  ask(path, { method, headers: { "content-type": "application/json", ...headers }, body: tree === undefined ? undefined : JSON.stringify(tree) });

export const wait = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

export const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// localStorage is not there in every mode of every browser: then nothing is remembered, and the page works
export const memory = {
  read(name, fallback = null) {
    try {
      return JSON.parse(localStorage.getItem(`aftermap-${name}`)) ?? fallback;
    } catch {
      return fallback;
    }
  },
  write(name, value) {
    try {
      localStorage.setItem(`aftermap-${name}`, JSON.stringify(value));
    } catch { /* not kept */ }
  },
};
