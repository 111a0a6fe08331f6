// Something shown: loaded when a view opens, loaded again when the server says that something happened.
import { untrack } from 'svelte';
import { live } from './live.svelte';

/** What a view shows and how it stands with it. To be made while a component is set up. */
export class Resource<T> {
  /** The newest that was loaded; older data stays visible while newer is on its way. */
  data = $state.raw<T | undefined>(undefined);
  /** Why the last attempt failed. */
  error = $state.raw<unknown>(undefined);
  /** When the data was read, ms by the browser's clock. */
  at = $state<number | undefined>(undefined);
  #load: (signal: AbortSignal) => Promise<T>;
  #running: AbortController | undefined;
  #again = false;

  /**
   * `load` is called anew when what `depends` reads changes, and when something happened, unless what is there is younger
   * than `keepMs`: what never changes is kept for `Infinity`.
   */
  constructor(load: (signal: AbortSignal) => Promise<T>, depends: () => unknown = () => undefined, keepMs = 0) {
    this.#load = load;
    $effect(() => {
      depends();
      untrack(() => void this.#begin());
      return () => this.#running?.abort();
    });
    let seen = untrack(() => live.version);
    $effect(() => {
      if (live.version === seen) return;
      seen = live.version;
      untrack(() => {
        if (!this.#keeps(keepMs)) this.refresh();
      });
    });
  }

  /** Loads again, after the load under way if there is one. */
  refresh(): void {
    if (this.#running !== undefined) this.#again = true;
    else void this.#begin();
  }

  /** Whether it is too early to load again: what is there is young, or newer is on its way. */
  #keeps(ms: number): boolean {
    if (ms === 0) return false;
    if (this.#running !== undefined) return true;
    return this.error === undefined && this.at !== undefined && Date.now() - this.at < ms;
  }

  async #begin(): Promise<void> {
    this.#running?.abort();
    const running = new AbortController();
    this.#running = running;
    try {
      const data = await this.#load(running.signal);
      if (running.signal.aborted) return;
      this.data = data;
      this.at = Date.now();
      this.error = undefined;
    } catch (error) {
      if (running.signal.aborted) return;
      this.error = error;
    }
    this.#running = undefined;
    if (this.#again) {
      this.#again = false;
      void this.#begin();
    }
  }
}
