// What a reader can do with a table. Without this script all rows and all columns are there, in the order of the page.

// Sorting by a column: a button in each heading, so that the keyboard can do what the mouse can. Empty cells stay last.
function makeSortable(table) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const numeric = heading.classList.contains("number");
      const before = heading.getAttribute("aria-sort");
      const ascending = before ? before === "descending" : !numeric;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const value = (row) => {
        const cell = row.cells[column];
        return cell.dataset.sort !== undefined ? Number(cell.dataset.sort) : cell.textContent.trim();
      };
      const compare = (a, b) => {
        const x = value(a), y = value(b);
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
        return ascending ? order : -order;
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}

// A box that keeps the rows which hold every word in it.
function searchBox(table) {
  const box = document.createElement("input"), count = document.createElement("output"), rows = [...table.tBodies[0].rows];
  box.type = "search";
  box.placeholder = "Search rows";
  box.setAttribute("aria-label", `Search rows: ${table.caption.textContent}`);
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    const left = rows.filter((row) => !row.hidden).length;
    count.textContent = left < rows.length ? `${left} of ${rows.length} rows` : "";
  });
  return [box, count];
}

// A list of the columns with a box each. Those with data-extra start hidden.
function columnChoice(table, changed) {
  const headings = [...table.tHead.rows[0].cells], details = document.createElement("details"), summary = document.createElement("summary");
  const say = () => {
    summary.textContent = `Columns (${headings.filter((heading) => !heading.hidden).length} of ${headings.length})`;
    changed();
  };
  const show = (column, visible) => {
    for (const row of [table.tHead.rows[0], ...table.tBodies[0].rows]) row.cells[column].hidden = !visible;
  };
  details.className = "columns";
  details.append(summary);
  headings.forEach((heading, column) => {
    if (heading.textContent === "row") return;
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.checked = heading.dataset.extra === undefined;
    if (!box.checked) show(column, false);
    box.addEventListener("change", () => { show(column, box.checked); say(); });
    label.append(box, heading.textContent);
    if (heading.title) label.title = heading.title;
    details.append(label);
  });
  say();
  return details;
}

// Says where a table has more to the side than is seen.
function scrollCue(frame) {
  const cue = document.createElement("span");
  cue.className = "cue";
  const update = () => {
    const left = frame.scrollWidth - frame.clientWidth - frame.scrollLeft;
    cue.textContent = left > 2 ? "more columns to the right \u2192" : frame.scrollLeft > 2 ? "\u2190 more columns to the left" : "";
  };
  frame.addEventListener("scroll", update, { passive: true });
  new ResizeObserver(update).observe(frame);
  return [cue, update];
}

for (const table of document.querySelectorAll("table.sortable")) {
  const frame = table.parentElement, tools = document.createElement("div"), [cue, update] = scrollCue(frame);
  tools.className = "tools";
  if (table.tBodies[0].rows.length > 5) tools.append(...searchBox(table));
  if (table.tHead.rows[0].cells.length > 6) tools.append(columnChoice(table, update));
  makeSortable(table);
  tools.append(cue);
  frame.before(tools);
  update();
}

// A link to a config opens it.
function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1)), details = target && target.closest("details");
  if (details) { details.open = true; target.scrollIntoView(); }
}
addEventListener("hashchange", openTarget);
openTarget();
