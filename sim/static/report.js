// Sorts the table of operators by the column whose head is pressed; numbers by the value behind them.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, i) => row.cells[i].dataset.value ?? row.cells[i].textContent;
  heads.forEach((head, i) =>
    head.querySelector("button").addEventListener("click", () => {
      const number = head.dataset.type === "number";
      const before = head.getAttribute("aria-sort");
      const up = before ? before === "descending" : !number;
      const sign = up ? 1 : -1;
      const compare = number
        ? (a, b) => Number(value(a, i)) - Number(value(b, i))
        : (a, b) => value(a, i).localeCompare(value(b, i), "en", { numeric: true });
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => sign * compare(a, b)));
    })
  );
}
