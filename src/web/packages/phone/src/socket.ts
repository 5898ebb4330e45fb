import { WebSocketInterface } from "jssip";

/** How often the gateway is asked during a call, milliseconds; its answer is due by the next time. */
const INTERVAL = 4000;
/** The same when there is reason to doubt. */
const DOUBT = 2000;

/**
 * JsSIP's socket, which notices within 8 s of a call that it is dead: a network that is gone tells
 * nobody, and the system keeps trying for minutes. JsSIP then reconnects on its own.
 */
export interface WatchedSocket extends WebSocketInterface {
  /** Asks every few seconds, or no more. */
  watch(on: boolean): void;
  /** Asks now: the network may be another one. */
  check(): void;
}

const made = () =>
  class extends WebSocketInterface implements WatchedSocket {
    #timer: ReturnType<typeof setInterval> | undefined;
    #asked = false;
    #heard: ((data: unknown) => void) | undefined;

    override connect(): void {
      const given = this.ondata;
      if (given !== this.#heard) {
        this.#heard = (data) => {
          this.#asked = false;
          given.call(this, data);
        };
        this.ondata = this.#heard;
      }
      this.#asked = false;
      super.connect();
    }

    watch(on: boolean): void {
      if (on === (this.#timer !== undefined)) return;
      clearInterval(this.#timer);
      this.#timer = on ? setInterval(this.#ask, INTERVAL) : undefined;
    }

    check(): void {
      this.#asked = false;
      this.#ask();
      setTimeout(() => this.#asked && this.#ask(), DOUBT);
    }

    #ask = (): void => {
      if (!this.isConnected()) return;
      if (this.#asked) {
        this.disconnect();
        this.ondisconnect(true, 1006, "no answer");
        return;
      }
      this.#asked = true;
      // RFC 7118 §6: the gateway answers with a single line end.
      this.send("\r\n\r\n");
    };
  };

let Made: ReturnType<typeof made> | undefined;

/** A socket to this address. A page may load JsSIP later than this module. */
export function watchedSocket(server: string): WatchedSocket {
  Made ??= made();
  return new Made(server);
}
