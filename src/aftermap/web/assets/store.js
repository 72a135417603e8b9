// The server of this page: what it is asked, and what went wrong in words.

class Failure extends Error {
  constructor(message, { final = false } = {}) {
    super(message);
    this.final = final; // asking again would not help
  }
}

class ServerStore {
  offline = false;

  constructor() {
    this.reviewer = "";
    this.browser = sessionStorage.getItem("aftermap-browser") ?? newKey();
    sessionStorage.setItem("aftermap-browser", this.browser);
  }

  state() {
    return this.ask(`state?reviewer=${encodeURIComponent(this.reviewer)}`);
  }

  next(count, holding) {
    return this.tell("next", { browser: this.browser, count, holding });
  }

  answer(said) {
    return this.tell("answer", said);
  }

  undo(key) {
    return this.tell("undo", { key });
  }

  skip(building_id) {
    return this.tell("skip", { browser: this.browser, building_id });
  }

  // said while the page goes away, so that others get what it holds
  release() {
    const body = JSON.stringify({ reviewer: this.reviewer || "nobody", browser: this.browser });
    navigator.sendBeacon("release", new Blob([body], { type: "application/json" }));
  }

  more(count) {
    return this.tell("more", { count });
  }

  find(id) {
    return this.ask(`building?id=${encodeURIComponent(id)}`);
  }

  ground() {
    return this.ask("ground");
  }

  mark(said) {
    return this.tell("mark", said);
  }

  picture(item, frame, date) {
    return `crop/${item.row}/${frame}/${date}`;
  }

  overview(date) {
    return `overview/${date}`;
  }

  tell(what, body) {
    return this.ask(what, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ reviewer: body.reviewer ?? this.reviewer, ...body }),
    });
  }

  async ask(what, options = {}) {
    let response;
    try {
      response = await fetch(what, options);
    } catch {
      throw new Failure("the server does not answer: is 'aftermap review' still running?");
    }
    if (response.ok) return response.json();
    const told = await response.json().catch(() => ({}));
    const text = told.error ?? `the server answered ${response.status}`;
    throw new Failure(text, { final: response.status >= 400 && response.status < 500 });
  }
}
