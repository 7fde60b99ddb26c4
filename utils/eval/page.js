"use strict"; // a click on a head sorts the rows of its table by that column; without this they stay in order of class
const order = new Intl.Collator("en", { numeric: true });
const words = (row, column) => row.cells[column].textContent.replace(/(\d),(?=\d)/g, "$1");
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[table.tBodies.length - 1];
  const sort = (head, column) => {
    const falling = head.getAttribute("aria-sort") === "ascending" || (column > 0 && !head.hasAttribute("aria-sort"));
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const rows = [...body.rows].sort((a, b) => order.compare(words(a, column), words(b, column)));
    body.append(...(falling ? rows.reverse() : rows));
  };
  heads.forEach((head, column) => {
    head.tabIndex = 0;
    head.title = "sort";
    head.addEventListener("click", () => sort(head, column));
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(head, column); });
  });
}
