// long tables: a field that filters rows, headings that sort, on a phone a few cards until asked for all
for (const table of document.querySelectorAll("table.many")) {
  const body = table.tBodies[0], rows = [...body.rows];
  const label = document.createElement("label"), field = document.createElement("input");
  label.className = "filter";
  field.type = "search";
  const hint = document.createElement("span"), all = document.createElement("button");
  hint.textContent = " A heading sorts.";
  label.append("Show rows with ", field, hint);
  table.parentNode.before(label);
  all.className = "all";
  all.textContent = `Show all ${rows.length} rows`;
  all.onclick = () => table.classList.remove("some");
  table.classList.add("some");
  table.parentNode.after(all);
  field.oninput = () => {
    table.classList.remove("some");
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(field.value.toLowerCase());
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("[aria-sort]").forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = row => row.cells[column].textContent.trim();
      const number = row => parseFloat(value(row).replace(/,(?=\d{3})/g, ""));
      rows.sort((a, b) => (up ? 1 : -1) * (
        isNaN(number(a)) || isNaN(number(b)) ? value(a).localeCompare(value(b)) : number(a) - number(b)));
      body.append(...rows);
    };
  });
}
