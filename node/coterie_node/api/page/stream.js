// The stream of events, kept open: it comes back by itself, doubts a node that falls silent, and rests while nobody
// looks at the page, so that a forgotten tab costs the node nothing.

const SILENCE = 7000; // The node says something every two seconds at least.
const HIDDEN = 20000;
const RETRY_FIRST = 1000;
const RETRY_MOST = 8000;

export class Stream {
  #source = null;
  #watchdog = 0;
  #retry = 0;
  #hide = 0;
  #opened = false;
  #pause = RETRY_FIRST;

  /** `to` has ring(snapshot), change(change), live(), lost(why) and resting(). */
  constructor(url, to) {
    this.url = url;
    this.to = to;
    document.addEventListener("visibilitychange", () => this.#visibility());
    addEventListener("pagehide", () => this.#close());
    addEventListener("pageshow", (event) => { if (event.persisted) this.open(); });
  }

  open() {
    this.#close();
    const source = new EventSource(this.url);
    this.#source = source;
    this.#opened = false;
    source.addEventListener("open", () => { this.#opened = true; });
    source.addEventListener("ring", (event) => this.#heard(() => this.to.ring(JSON.parse(event.data))));
    source.addEventListener("change", (event) => this.#heard(() => this.to.change(JSON.parse(event.data))));
    source.addEventListener("beat", () => this.#heard(() => {}));
    source.addEventListener("bye", () => this.#lost("The node is stopping."));
    source.addEventListener("error", () => this.#lost("The node does not answer."));
    this.#watch();
  }

  #heard(take) {
    this.#pause = RETRY_FIRST;
    this.#watch();
    this.to.live();
    take();
  }

  #watch() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#lost("The node has fallen silent."), SILENCE);
  }

  /** An EventSource gives up for good when it is refused: so every new attempt is a new one, under our own pauses. */
  #lost(why) {
    const refused = this.#source && !this.#opened;
    this.#close();
    const pause = this.#pause * (0.8 + 0.4 * Math.random());
    this.#pause = Math.min(this.#pause * 1.6, RETRY_MOST);
    this.#retry = setTimeout(() => this.open(), pause);
    this.to.lost(why);
    if (refused) this.#ask();
  }

  /** A browser does not tell why a stream was refused; the same question, asked in another way, is answered. */
  async #ask() {
    const waiting = this.#retry;
    const stop = new AbortController();
    const late = setTimeout(() => stop.abort(), 2000);
    try {
      const answer = await fetch(this.url, { cache: "no-store", signal: stop.signal });
      if (!answer.ok) {
        const { detail } = await answer.json();
        if (this.#retry === waiting && typeof detail === "string") this.to.lost(`The node says: ${detail}.`);
      }
    } catch {
      // It does not answer at all, as was said.
    } finally {
      clearTimeout(late);
      stop.abort();
    }
  }

  #visibility() {
    clearTimeout(this.#hide);
    if (document.hidden) {
      this.#hide = setTimeout(() => { this.#close(); this.to.resting(); }, HIDDEN);
    } else if (!this.#source) {
      this.open();
    }
  }

  #close() {
    clearTimeout(this.#watchdog);
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }
}
