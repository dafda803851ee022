// What JavaScript adds to a page that is complete without it: filters, arrow keys between cells, names on hover, and
// the reasons beside the matrix rather than below it.
(() => {
  "use strict";
  const table = document.getElementById("matrix");
  if (!table) return;
  const byId = (id) => document.getElementById(id);
  const form = byId("filter"), fold = byId("fold"), shown = byId("shown"), why = byId("why");
  const programs = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent.trim());
  const groups = [...table.tBodies];
  const boxes = groups.map((group) => group.querySelector("input"));
  const parts = new Map();
  for (const part of document.querySelectorAll("[data-program]")) {
    const column = Number(part.dataset.program.slice(1)) - 1;
    parts.set(column, [...(parts.get(column) ?? []), part]);
  }
  const hiding = new CSSStyleSheet();
  document.adoptedStyleSheets = [hiding];

  const kernelOf = (row) => {
    const [release, arch] = [row.cells[0].firstChild.data.trim(), row.cells[0].lastElementChild.textContent];
    return { row, arch, name: `${row.parentNode.dataset.folder}/${arch}/${release}` };
  };
  let known = null;
  const kernels = () => known ??= groups.flatMap((group) => [...group.rows].slice(1).map((row) => ({
    ...kernelOf(row), group, verdicts: [...row.cells].slice(1).map((cell) => cell.className),
  })));

  const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = (name, wanted) => wanted.every((word) => name.toLowerCase().includes(word));

  function filter() {
    const wanted = Object.fromEntries(new FormData(form));
    const inKernel = words(wanted.kernel), inProgram = words(wanted.program);
    const columns = programs.map((name) => matches(name, inProgram));
    const isSought = (verdict, column) => columns[column] && (!wanted.verdict || verdict === wanted.verdict);
    const seen = programs.map(() => false);
    const filled = new Set();
    let rows = 0;
    for (const { row, group, arch, name, verdicts } of kernels()) {
      const show = (!wanted.arch || arch === wanted.arch) && matches(name, inKernel) && verdicts.some(isSought);
      row.hidden = !show;
      if (!show) continue;
      rows += 1;
      filled.add(group);
      verdicts.forEach((verdict, column) => { seen[column] ||= isSought(verdict, column); });
    }
    for (const group of groups) group.hidden = !filled.has(group);
    hide(seen);
    const isFiltered = Boolean(wanted.verdict || wanted.arch || inKernel.length || inProgram.length);
    table.classList.toggle("filtered", isFiltered);
    table.dataset.only = wanted.verdict;
    fold.hidden = isFiltered;
    for (const [column, own] of parts) for (const part of own) {
      part.hidden = !seen[column];
      for (const finding of part.getElementsByTagName("article")) {
        finding.hidden = Boolean(wanted.verdict) && !finding.classList.contains(wanted.verdict);
      }
    }
    const count = (number, of, noun) => `${number.toLocaleString("en")} of ${of.toLocaleString("en")} ${noun}`;
    shown.textContent = isFiltered
      ? `${count(rows, kernels().length, "kernels")}, ${count(seen.filter(Boolean).length, programs.length, "programs")}`
      : "";
  }

  // One rule for each run of hidden columns, rather than a change to each of their cells.
  function hide(seen) {
    const runs = [];
    seen.forEach((isSeen, column) => {
      if (isSeen) return;
      const last = runs.at(-1);
      if (last?.end === column) last.end += 1;
      else runs.push({ start: column, end: column + 1 });
    });
    hiding.replaceSync(runs.map(({ start, end }) =>
      `#matrix tr > :nth-child(n+${start + 2}):nth-child(-n+${end + 1}) { display: none }`).join("\n"));
  }

  const areOpen = () => boxes.every((box) => box.checked);
  const sayFold = () => { fold.textContent = areOpen() ? "Fold all" : "Unfold all"; };
  fold.addEventListener("click", () => {
    const open = !areOpen();
    for (const box of boxes) box.checked = open;
    sayFold();
  });
  table.addEventListener("change", sayFold);
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter)); // the fields are emptied after the event
  form.addEventListener("submit", (event) => event.preventDefault());

  const placeOf = (cell) => ({ program: programs[cell.cellIndex - 1], kernel: kernelOf(cell.parentNode).name });
  table.addEventListener("mouseover", (event) => {
    const cell = event.target.closest("tr:not(.g) > td[class]");
    if (!cell || cell.title) return;
    const { program, kernel } = placeOf(cell);
    cell.title = `${program} ${cell.textContent} on ${kernel}`;
  });
  table.addEventListener("click", (event) => {
    const link = event.target.closest("td > a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || !why.showModal) return;
    event.preventDefault();
    const { program, kernel } = placeOf(link.parentNode);
    const finding = byId(link.hash.slice(1)).cloneNode(true);
    finding.removeAttribute("id");
    finding.hidden = false;
    byId("why-what").textContent = program;
    byId("why-where").textContent = kernel;
    byId("why-body").replaceChildren(finding);
    why.showModal();
  });
  why.addEventListener("click", (event) => { if (event.target === why) why.close(); });

  const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  table.addEventListener("keydown", (event) => {
    const step = STEPS[event.key], cell = event.target.closest("td");
    if (!step || !cell || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    let { rowIndex } = cell.parentNode, { cellIndex } = cell;
    for (;;) {
      rowIndex += step[0];
      cellIndex += step[1];
      const next = table.rows[rowIndex]?.cells[cellIndex];
      if (!next) return;
      const link = next.querySelector("a");
      if (link?.offsetParent) return link.focus();
    }
  });

  form.hidden = false;
  byId("legend").hidden = true; // the choice of a verdict says the same
  sayFold();
})();
