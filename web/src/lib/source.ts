// What can be said of a line of a script.

/** `on` was reached, `off` was not, `stop` is where it waits, `differs` is where two versions part. */
export interface Mark {
  tone: 'on' | 'off' | 'stop' | 'differs';
  /** What stands beside the line; may be empty. */
  note: string;
}
