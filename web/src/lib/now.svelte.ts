// The server's clock: ages are told by it, never by the clock of whoever looks.

class Now {
  /** The server's present, ms. */
  ms = $state(Date.now());
  #offset = 0;

  /** The server has just said what time it is. */
  set(now: string): void {
    this.#offset = new Date(now).getTime() - Date.now();
    this.ms = Date.now() + this.#offset;
  }

  /** Goes on every second until the returned function is called. */
  tick(): () => void {
    const timer = setInterval(() => (this.ms = Date.now() + this.#offset), 1_000);
    return () => clearInterval(timer);
  }
}

export const now = new Now();
