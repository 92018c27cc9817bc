for (const box of document.querySelectorAll(".filter")) {
  box.hidden = false;
  const field = box.querySelector("input"), told = box.querySelector("[role=status]");
  const all = [...document.getElementById(box.dataset.of).querySelectorAll(".shown")];
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    let left = 0;
    for (const each of all) {
      each.hidden = !each.textContent.toLowerCase().includes(wanted);
      left += !each.hidden;
    }
    told.textContent = `${left} of ${all.length} examples`;
  });
}
for (const table of document.querySelectorAll("table.sorts")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const own = row.cells[column].dataset.order;
        return own === undefined ? row.cells[column].textContent : Number(own);
      };
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (typeof x === "string") return down ? y.localeCompare(x) : x.localeCompare(y);
        // What was not measured stays below, whichever way.
        if (!Number.isFinite(x) || !Number.isFinite(y)) return Number.isFinite(y) - Number.isFinite(x);
        return down ? y - x : x - y;
      };
      body.append(...[...body.rows].sort(order));
    });
  });
}
