// What happens on the server, as it happens: follows the event stream and tells the views to look again.
import { open, Refusal } from './client';
import { parseEvents } from './sse';

/** Facts arrive in bursts; views look again once per burst. */
const SETTLE_MS = 350;
/** Telemetry and scores are no events: look again anyway. */
const LOOK_AGAIN_MS = 30_000;
const LONGEST_RETRY_MS = 15_000;

class Live {
  /** Rises whenever there may be something new to show. */
  version = $state(0);
  /** Whether events are being received. */
  connected = $state(false);
  /** Since when they are not, by the browser's clock. */
  lostAt = $state<number | undefined>(undefined);

  #last: string | undefined;
  #settle: ReturnType<typeof setTimeout> | undefined;

  /** Follows the stream until the returned function is called. */
  follow(): () => void {
    const stop = new AbortController();
    const timer = setInterval(() => this.touch(), LOOK_AGAIN_MS);
    // Whoever comes back to the tab wants to see the present.
    const back = () => this.touch();
    document.addEventListener('visibilitychange', back);
    void this.#run(stop.signal);
    return () => {
      stop.abort();
      document.removeEventListener('visibilitychange', back);
      clearInterval(timer);
      clearTimeout(this.#settle);
      this.#settle = undefined;
    };
  }

  /** Something may have changed. */
  touch(): void {
    if (this.#settle !== undefined || document.hidden) return;
    this.#settle = setTimeout(() => {
      this.#settle = undefined;
      this.version += 1;
    }, SETTLE_MS);
  }

  async #run(stop: AbortSignal): Promise<void> {
    for (let retry = 1_000; !stop.aborted; retry = Math.min(retry * 2, LONGEST_RETRY_MS)) {
      try {
        await this.#listen(stop, () => (retry = 500));
      } catch (error) {
        if (error instanceof Refusal && error.status === 401) return;
        // What came after the last fact seen is kept no longer; whoever shows something looks at it anew.
        if (error instanceof Refusal && error.status === 410) this.#last = undefined;
      }
      if (stop.aborted) return;
      this.connected = false;
      this.lostAt ??= Date.now();
      await new Promise((resolve) => setTimeout(resolve, retry));
    }
  }

  async #listen(stop: AbortSignal, opened: () => void): Promise<void> {
    const headers: Record<string, string> = { accept: 'text/event-stream' };
    if (this.#last !== undefined) headers['last-event-id'] = this.#last;
    const response = await open('/api/v1/events/stream', headers, stop);
    if (response.body === null) throw new TypeError('an empty stream');
    opened();
    // What was missed without a number to go on from.
    if (this.lostAt !== undefined) this.touch();
    this.connected = true;
    this.lostAt = undefined;
    for await (const event of parseEvents(response.body)) {
      if (event.id !== undefined) this.#last = event.id;
      this.touch();
    }
  }
}

export const live = new Live();
