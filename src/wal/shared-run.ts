/** Runs a task one at a time; calls that come during a run share the next one, which begins after it. */
export class SharedRun {
  readonly #task: () => Promise<void>;
  #running: Promise<void> | null = null;
  #queued: Promise<void> | null = null;

  constructor(task: () => Promise<void>) {
    this.#task = task;
  }

  /**
   * Resolves when a run that began at or after this call has ended. Rejects when it, or the run before it,
   * failed.
   */
  request(): Promise<void> {
    if (this.#queued !== null) return this.#queued;
    if (this.#running === null) return this.#start();
    this.#queued = this.#running
      .finally(() => {
        this.#queued = null;
      })
      .then(() => this.#start());
    return this.#queued;
  }

  #start(): Promise<void> {
    this.#running = this.#task().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }
}
