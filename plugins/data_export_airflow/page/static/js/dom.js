/** An element: `h("td", { class: "number", onclick: f, hidden: false }, "text", node, null)`. Text is never markup. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") element.style.cssText = value; // the page's own security policy refuses it as an attribute
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Makes these an element's children. Those that it has already are not moved, and keep focus and scrolling. */
export function renew(element, children) {
  for (const child of [...element.childNodes]) if (!children.includes(child)) child.remove();
  let place = element.firstChild;
  for (const child of children) {
    if (child === place) place = place.nextSibling;
    else element.insertBefore(child, place);
  }
}

export const byId = (id) => document.getElementById(id);

/** Announces a change to screen readers. */
export function announce(text) {
  byId("status").textContent = text;
}
