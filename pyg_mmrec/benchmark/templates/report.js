"use strict";
// Sorts a table by the column whose name is clicked: numbers from the largest, words from A; a second click turns it round.
document.querySelectorAll("thead button").forEach((button) => {
  button.addEventListener("click", () => {
    const header = button.closest("th"), body = button.closest("table").tBodies[0];
    const index = [...header.parentNode.children].indexOf(header), rows = [...body.rows];
    const key = (row) => row.cells[index].dataset.key;
    const numeric = rows.every((row) => key(row) === "nan" || (key(row) !== "" && !Number.isNaN(Number(key(row)))));
    const before = header.getAttribute("aria-sort");
    const order = before === "none" ? (numeric ? "descending" : "ascending") : before === "ascending" ? "descending" : "ascending";
    const sign = order === "ascending" ? 1 : -1;
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (!numeric) return sign * x.localeCompare(y, "en", { numeric: true });
      if (x === "nan" || y === "nan") return (x === "nan") - (y === "nan"); // what is missing stays last
      return sign * (Number(x) - Number(y));
    });
    header.parentNode.querySelectorAll("th").forEach((other) => other.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", order);
    body.append(...rows);
  });
});
