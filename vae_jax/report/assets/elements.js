// The elements of a page: what no element is, a text from outside too, is set as text and never as markup.
"use strict";

globalThis.vaeElements ??= (() => {
  // An element with its properties and children.
  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  return { make };
})();
