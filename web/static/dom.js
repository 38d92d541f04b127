// Builds elements. Text stays text: nothing here parses HTML.

/** `el('a', {href, class, onclick}, 'text', child)`: strings become text nodes; false and null are left out. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in the SVG namespace. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function byId(id) {
  return document.getElementById(id);
}

/** A button that copies `text()` to the clipboard. */
export function copyButton(label, text) {
  const button = el('button', { type: 'button', class: 'quiet' }, label);
  button.addEventListener('click', () => copy(button, text()));
  return button;
}

/** Copy `text` to the clipboard, and show the result on the button for a moment. */
export async function copy(button, text) {
  const label = (button.dataset.label ??= button.textContent);
  const done = await (navigator.clipboard?.writeText(text).then(() => true, () => false) ?? false);
  button.textContent = done ? 'Copied' : 'Can’t copy here';
  setTimeout(() => (button.textContent = label), 1500);
}
