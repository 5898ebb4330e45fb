/** What is dialled for what was typed or pasted: numbers lose their punctuation, names nothing. */
export function dialled(typed: string): string {
  const text = typed.trim().replace(/^(tel|sip|sips|callto):/i, "");
  return /^[+\d*#(][\d\s().\-/*#]*$/.test(text) ? text.replace(/[\s().\-/]/g, "") : text;
}
