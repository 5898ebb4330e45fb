/** Languages the page speaks. */
export interface Languages<Texts> {
  en: Texts;
  de: Texts;
}

/** The texts in the first of the browser's languages that is spoken here, or in English. */
export function chosen<Texts>(texts: Languages<Texts>): Texts {
  for (const language of navigator.languages) {
    const [name] = language.toLowerCase().split("-");
    if (name === "en" || name === "de") return texts[name];
  }
  return texts.en;
}
