"use strict";
(() => {
  const svg = document.documentElement, boxes = [...document.querySelectorAll("#boxes g")];
  const margin = 10, char = 6.6, width = svg.viewBox.baseVal.width - 2 * margin;
  const number = (box, key) => Number(box.dataset[key]);
  const said = document.getElementById("said");

  // Shows `from` and all below and above it, as wide as the picture.
  function zoom(from) {
    const left = number(from, "x"), whole = number(from, "w"), scale = width / Math.max(1, whole);
    for (const box of boxes) {
      const x = number(box, "x"), w = number(box, "w"), below = number(box, "d") < number(from, "d");
      const inside = x >= left && x + w <= left + whole;
      const carries = below && x <= left && x + w >= left + whole;
      box.style.display = inside && !below || carries ? "" : "none";
      const at = carries ? margin : margin + (x - left) * scale, wide = carries ? width : w * scale;
      const [rect, text] = [box.querySelector("rect"), box.querySelector("text")];
      rect.setAttribute("x", at);
      rect.setAttribute("width", wide);
      text.setAttribute("x", at + 3);
      const letters = Math.floor((wide - 4) / char), name = box.dataset.n;
      text.textContent = letters < 3 ? "" : name.length <= letters ? name : name.slice(0, letters - 2) + "..";
    }
  }

  // Marks what matches and says its share: of boxes that stand on each other the lowest counts.
  function search(wanted) {
    let test;
    try {
      test = new RegExp(wanted, "i");
    } catch {
      said.textContent = "not a regular expression: " + wanted;
      return;
    }
    const found = [];
    for (const box of boxes) {
      const hit = Boolean(wanted) && test.test(box.dataset.n);
      box.classList.toggle("found", hit);
      if (hit) found.push([number(box, "x"), number(box, "w")]);
    }
    found.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
    let end = 0, sum = 0;
    for (const [x, w] of found) {
      if (x < end) continue;
      sum += w;
      end = x + w;
    }
    const share = 100 * sum / Math.max(1, number(boxes[0], "w"));
    said.textContent = wanted ? `${wanted}: ${share.toFixed(2)} %` : "";
  }

  const ask = () => search(prompt("Regular expression") || "");
  for (const box of boxes) box.addEventListener("click", () => zoom(box));
  document.getElementById("reset").addEventListener("click", () => zoom(boxes[0]));
  document.getElementById("search").addEventListener("click", ask);
  window.addEventListener("keydown", (event) => {
    if (event.key === "Escape") zoom(boxes[0]);
    if (event.key === "/" || (event.ctrlKey && event.key === "f")) {
      event.preventDefault();
      ask();
    }
  });
})();
