// Making elements. Text goes in as text; an address becomes a link only where it is one of the web.

type Attributes = Record<string, string | boolean | undefined>;
type Child = Node | string | null | undefined | false;

export function make<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child): child is Node | string => Boolean(child)));
  return element;
}

export function the<Found extends HTMLElement = HTMLElement>(id: string): Found {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as Found;
}

/** An address that is safe to follow; null for anything but http and https. */
export function webAddress(text: unknown): string | null {
  if (typeof text !== "string" || !/^https?:\/\//i.test(text)) return null;
  try {
    const address = new URL(text);
    return address.username || address.password ? null : address.href;
  } catch {
    return null;
  }
}

export function link(address: unknown, text: string): HTMLAnchorElement | null {
  const href = webAddress(address);
  return href ? make("a", { href, "data-key": text, target: "_blank", rel: "noopener noreferrer" }, text) : null;
}

/** What is shown is compared with all that its buttons act on; made anew it keeps the focus at the same entry. */
export function replaceKeepingFocus(body: HTMLElement, list: HTMLElement): void {
  if (body.innerHTML === list.outerHTML) return;
  const key = body.contains(document.activeElement) ? (document.activeElement as HTMLElement).dataset["key"] : undefined;
  body.replaceChildren(list);
  if (key) [...body.querySelectorAll<HTMLElement>("[data-key]")].find((each) => each.dataset["key"] === key)?.focus({ preventScroll: true });
}
