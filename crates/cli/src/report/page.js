"use strict";
// A cursor through all charts at once. Without this the page lacks nothing else.
(() => {
  const L = 86, R = 1026, plots = [...document.querySelectorAll("svg.plot")];
  const units = ["", "k", "M", "G", "T", "P"];
  const show = (v, unit) => {
    if (!unit) return Math.round(v).toLocaleString("en").replaceAll(",", "\u202f");
    let n = 0;
    while (v >= 999.5 && n < units.length - 1) { v /= 1000; n++; }
    return (v < 9.995 ? v.toFixed(n ? 2 : 0) : v < 99.95 ? v.toFixed(n ? 1 : 0) : v.toFixed(0)) + " " + units[n] + unit;
  };
  const tips = plots.map(p => {
    const tip = document.createElement("output");
    tip.className = "tip";
    p.parentNode.append(tip);
    return { p, tip, line: p.querySelector(".cursor"), rows: JSON.parse(p.dataset.rows), step: +p.dataset.step, end: +p.dataset.end };
  });
  const off = () => tips.forEach(t => { t.tip.hidden = true; t.line.setAttribute("x1", -9); t.line.setAttribute("x2", -9); });
  const at = (part) => tips.forEach(t => {
    const slot = Math.floor(part * t.end / t.step), x = L + (R - L) * part;
    if (!t.rows.length || slot >= t.rows[0][2].length) { t.tip.hidden = true; return; }
    t.line.setAttribute("x1", x); t.line.setAttribute("x2", x);
    const seconds = (slot * t.step / 1e9).toFixed(t.step < 1e7 ? 4 : 2);
    t.tip.textContent = seconds + " s   " + t.rows.map(r => r[0] + " " + show(r[2][slot], r[1])).join("   ");
    t.tip.hidden = false;
  });
  for (const t of tips) {
    t.p.addEventListener("pointermove", e => {
      const box = t.p.getBoundingClientRect(), x = (e.clientX - box.left) * 1040 / box.width;
      x < L || x > R ? off() : at((x - L) / (R - L));
    });
    t.p.addEventListener("pointerleave", off);
  }
  off();
})();
