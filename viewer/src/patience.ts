// Nothing is waited for without end.

/** Aborts what is asked for after a time, as `AbortSignal.timeout` does, which is too new for many phones. */
export function within(milliseconds: number): AbortSignal {
  const stop = new AbortController();
  setTimeout(() => stop.abort(new DOMException("no answer in time", "TimeoutError")), milliseconds);
  return stop.signal;
}
