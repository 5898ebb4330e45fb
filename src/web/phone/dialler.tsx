import { useEffect, useRef } from "preact/hooks";
import type { App } from "./app.js";
import { Icon } from "./icons.js";
import { t } from "./texts.js";

const LETTERS: Record<string, string> = {
  "2": "ABC",
  "3": "DEF",
  "4": "GHI",
  "5": "JKL",
  "6": "MNO",
  "7": "PQRS",
  "8": "TUV",
  "9": "WXYZ",
  "0": "+",
};
const LONG_PRESS = 600;

/** The keys; `0` held down is `+` where a number is edited. */
export function Pad({ press, plus }: { press(key: string): void; plus: boolean }) {
  const held = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  // The click that follows a long press is not one.
  const long = useRef(false);
  const down = (key: string) => {
    clearTimeout(held.current);
    long.current = false;
    if (!plus || key !== "0") return;
    held.current = setTimeout(() => {
      long.current = true;
      press("+");
    }, LONG_PRESS);
  };
  const click = (key: string) => {
    clearTimeout(held.current);
    if (!long.current) press(key);
    long.current = false;
  };
  return (
    <fieldset id="pad" aria-label={t.call.keypad}>
      {[..."123456789*0#"].map((key) => (
        <button
          key={key}
          type="button"
          aria-label={t.dialler.keys[key] ?? key}
          data-key={key}
          data-letters={LETTERS[key] ?? ""}
          onPointerDown={() => down(key)}
          // The focus stays where it was, so that Enter calls.
          onMouseDown={(event) => event.preventDefault()}
          onClick={() => click(key)}
        >
          {key}
        </button>
      ))}
    </fieldset>
  );
}

/** The number, the keys that edit it, and the button that calls it. */
export function Dialler({ app }: { app: App }) {
  const input = useRef<HTMLInputElement>(null);
  const fine = matchMedia("(pointer: fine)").matches;
  useEffect(() => {
    const free = !document.activeElement || document.activeElement === document.body;
    if (fine && free) input.current?.focus({ preventScroll: true });
  }, [fine]);
  const name = app.nameOf(app.number);
  const adding = app.calls.length > 0;
  return (
    <form
      id="dialler"
      onSubmit={(event) => {
        event.preventDefault();
        app.call(input.current?.value ?? "");
      }}
    >
      <label for="number">{adding ? t.dialler.asWell : t.dialler.number}</label>
      <div class="number">
        <input
          id="number"
          ref={input}
          inputMode="tel"
          autocomplete="off"
          spellcheck={false}
          aria-describedby="hint"
          list="people"
          value={app.number}
          onInput={(event) => app.setNumber(event.currentTarget.value)}
        />
        {app.number && (
          <button
            type="button"
            class="quiet"
            id="erase"
            aria-label={t.dialler.erase}
            onClick={() => app.setNumber(app.number.slice(0, -1))}
          >
            <Icon name="erase" />
          </button>
        )}
      </div>
      <datalist id="people">
        {app.contacts.map((contact) => (
          <option key={contact.number} value={contact.number}>
            {contact.name}
          </option>
        ))}
      </datalist>
      <p id="hint">{name || t.dialler.hint}</p>
      <Pad press={(key) => app.press(key)} plus />
      <button id="dial" type="submit" class="primary" disabled={!app.phone?.ready}>
        <Icon name="phone" />
        {app.number || !app.history.length ? t.dialler.call : t.dialler.redial}
      </button>
    </form>
  );
}
