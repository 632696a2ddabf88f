/* Helpers of the desk. Everything works without this file; it makes things quicker: dialogs instead of pages,
   "/" for the search, copy buttons, the items editor without reloads. */
(() => {
  "use strict";
  const on = (name, act) => document.addEventListener(name, act);
  const typing = (el) => el.matches("input, textarea, select, [contenteditable]");

  function say(text) {
    const toast = document.getElementById("desk-said");
    if (!toast) return;
    toast.textContent = text;
    toast.classList.add("is-shown");
    clearTimeout(say.timer);
    say.timer = setTimeout(() => toast.classList.remove("is-shown"), 2000);
  }

  // The command palette: Enter opens the first result when none has been chosen with the arrows.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.id !== "search-input-command") return;
    const chosen = document.querySelector("#command-results-list li.active a");
    if (chosen) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const first = document.querySelector("#command-results-list a");
    if (first) location.href = first.href;
  }, true);

  // Copy ---------------------------------------------------------------------------------------------------------
  on("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    event.preventDefault();
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      const box = Object.assign(document.createElement("textarea"), { value: button.dataset.copy });
      document.body.append(box);
      box.select();
      document.execCommand("copy");
      box.remove();
    }
    button.classList.add("is-done");
    setTimeout(() => button.classList.remove("is-done"), 1500);
    say(`Copied ${button.dataset.copy}`);
  });

  // Keys ---------------------------------------------------------------------------------------------------------
  on("keydown", (event) => {
    if (event.key === "/" && !typing(event.target) && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const search = document.getElementById("desk-search");
      // A list's own search field answers to the same key.
      if (search && !document.querySelector("dialog[open], #searchbar")) {
        event.preventDefault();
        search.click();
      }
    }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.matches("textarea")) {
      event.target.form?.requestSubmit();
    }
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
      for (const open of document.querySelectorAll("details.items__add[open], details.desk-menu[open], details.desk-user[open]")) {
        open.open = false;
        if (open.contains(document.activeElement)) open.querySelector("summary").focus();
      }
    }
  });
  on("click", (event) => {
    for (const open of document.querySelectorAll("details.items__add[open], details.desk-menu[open], details.desk-user[open]")) {
      if (!open.contains(event.target)) open.open = false;
    }
  });

  // What htmx brings is shown and answers to keys and clicks in the same moment; by itself it would wait 20 ms between.
  htmx.config.defaultSettleDelay = 0;

  // Dialogs: whatever htmx puts into #desk-dialog is shown; Esc, Cancel and the backdrop close it ---------------------
  const dialog = () => document.getElementById("desk-dialog");
  on("htmx:beforeSwap", (event) => {
    const box = dialog();
    if (event.detail.target !== box) return;
    // A link inside a part that replaces itself would inherit that, and replace the dialog.
    event.detail.swapOverride = "innerHTML";
    if ([403, 404, 409, 422].includes(event.detail.xhr.status)) {
      event.detail.shouldSwap = true;
      event.detail.isError = false;
    }
    // Asked for in the dialog, which was closed while it came: it stays closed.
    if (!box.open && box.contains(event.detail.requestConfig.elt)) event.detail.shouldSwap = false;
  });
  on("htmx:afterSettle", (event) => {
    const box = dialog();
    if (event.detail.target !== box) return;
    if (!box.open) {
      const opener = document.activeElement;
      // The focus goes back to what opened it; to the menu's button when that was in a menu, which closes.
      box.addEventListener("close", () => {
        const menu = opener?.closest?.("details");
        if (menu) menu.open = false;
        (menu?.querySelector("summary") || opener)?.focus?.();
      }, { once: true });
      box.showModal();
    }
    // What is wrong comes first, wherever it stands; then what is typed into; then whatever there is.
    const wanted = ["[aria-invalid]", "[autofocus]", "input:not([type=hidden], [type=radio], [type=checkbox]), select, textarea", "input:not([type=hidden])", "button"];
    wanted.map((what) => box.querySelector(what)).find(Boolean)?.focus();
  });
  on("click", (event) => {
    const box = dialog();
    if (!box?.open) return;
    if (event.target === box || event.target.closest("[data-close]")?.closest("dialog") === box) {
      event.preventDefault();
      box.close();
    }
  });
  on("htmx:responseError", (event) => {
    if (event.detail.target !== dialog() || event.detail.xhr.status >= 500) say("That did not work. Nothing was changed; try again.");
  });
  on("htmx:sendError", () => say("The server cannot be reached. Nothing was changed; try again."));

  // Selects that submit their form (versions to compare, filters) ---------------------------------------------------
  on("change", (event) => {
    if (event.target.matches("select[data-go]")) event.target.form.requestSubmit();
  });

  // One box that ticks all of its name in the form around it.
  on("change", (event) => {
    if (!event.target.matches("input[data-all]")) return;
    for (const box of event.target.form.querySelectorAll(`[name="${event.target.dataset.all}"]`)) box.checked = event.target.checked;
  });

  // Ticks that outlive their page: who was chosen on other pages of a list goes along with the act ---------------------
  const MOST_PICKED = 500;
  const picksOf = (form) => `picks:${form.dataset.picks}`;
  const readPicks = (form) => new Set(JSON.parse(sessionStorage.getItem(picksOf(form)) || "[]"));

  function showPicks(form, picks) {
    const here = new Set([...form.querySelectorAll("input[type=checkbox][data-pick]")].map((box) => box.value));
    const elsewhere = [...picks].filter((value) => !here.has(value));
    for (const kept of form.querySelectorAll("input[type=hidden][data-pick]")) kept.remove();
    for (const value of elsewhere) {
      const kept = Object.assign(document.createElement("input"), { type: "hidden", name: "customer", value });
      kept.dataset.pick = "";
      form.append(kept);
    }
    const told = form.querySelector("[data-picked]");
    told.hidden = !elsewhere.length;
    told.querySelector("strong").textContent = elsewhere.length;
    form.classList.toggle("has-picks", elsewhere.length > 0);
  }

  function pick(form) {
    const picks = readPicks(form);
    for (const box of form.querySelectorAll("input[type=checkbox][data-pick]")) {
      if (box.checked && picks.size < MOST_PICKED) picks.add(box.value);
      else if (!box.checked) picks.delete(box.value);
    }
    sessionStorage.setItem(picksOf(form), JSON.stringify([...picks]));
    showPicks(form, picks);
  }

  on("change", (event) => {
    const form = event.target.closest?.("form[data-picks]");
    if (form && event.target.matches("[data-pick], [data-all]")) pick(form);
  });
  on("click", (event) => {
    const form = event.target.closest("[data-unpick]")?.closest("form[data-picks]");
    if (!form) return;
    for (const box of form.querySelectorAll("input[type=checkbox][data-pick]")) box.checked = false;
    pick(form);
    sessionStorage.removeItem(picksOf(form));
    showPicks(form, new Set());
  });
  // What is begun is no longer chosen.
  on("submit", (event) => {
    if (event.target.matches("form[data-picks]")) sessionStorage.removeItem(picksOf(event.target));
  });
  on("DOMContentLoaded", () => {
    for (const form of document.querySelectorAll("form[data-picks]")) {
      const picks = readPicks(form);
      for (const box of form.querySelectorAll("input[type=checkbox][data-pick]")) if (picks.has(box.value)) box.checked = true;
      showPicks(form, picks);
    }
  });

  // The items editor --------------------------------------------------------------------------------------------------
  const plain = (text) => {
    const bare = text.replace(/[,\s$€£¥]/g, "");
    return bare !== "" && !Number.isNaN(Number(bare)) ? String(Number(bare)) : text.trim();
  };
  const value = (el) => (el.type === "checkbox" ? String(el.checked) : plain(el.value));

  function mark(editor) {
    for (const cell of editor.querySelectorAll(".items__cell[data-compared]")) {
      // Fields of another charge model are not shown and do not count.
      const model = (cell.closest(".items__more") || foldedOf(cell.parentElement))?.querySelector("[id$='-model']")?.value;
      const counts = (el) => {
        const part = el.closest("[data-models]");
        return !part || part.dataset.models.split(" ").includes(model);
      };
      const other = [...cell.querySelectorAll("[data-standard]")].filter((el) => {
        const standard = el.type === "checkbox" ? el.dataset.standard : plain(el.dataset.standard);
        const differs = counts(el) && value(el) !== standard;
        el.classList.toggle("is-different", differs);
        return differs;
      });
      const differs = other.length > 0 || [...cell.querySelectorAll("[data-tiers]")].filter(counts).some((tiers) => {
        const filled = [...tiers.querySelectorAll(".items__tier")].filter((tier) => [...tier.querySelectorAll("input")].some((el) => el.value));
        return filled.length !== Number(tiers.dataset.tiers);
      });
      cell.classList.toggle("is-changed", differs);
    }
    for (const row of editor.querySelectorAll(".items__row[data-compared]")) {
      const folded = foldedOf(row)?.querySelector(".items__cell.is-changed");
      row.classList.toggle("is-changed", !!(folded || row.querySelector(".items__cell.is-changed")));
    }
    // Each tier begins where the one before ends.
    for (const tiers of editor.querySelectorAll(".items__tiers")) {
      let upper = "0";
      for (const tier of tiers.querySelectorAll(".items__tier:not(.items__tier--head)")) {
        tier.querySelector(".items__from").textContent = upper;
        upper = tier.querySelector("input").value || "…";
      }
    }
  }
  const foldedOf = (row) => (row.nextElementSibling?.matches(".items__more") ? row.nextElementSibling : null);
  for (const editor of document.querySelectorAll(".items")) mark(editor);
  on("input", (event) => {
    const editor = event.target.closest(".items");
    if (editor && !event.target.closest(".items__menu")) mark(editor);
  });
  on("input", (event) => {
    if (!event.target.matches("[data-narrow]")) return;
    const words = event.target.value.toLowerCase();
    for (const button of event.target.parentElement.querySelectorAll("button")) {
      button.hidden = !button.textContent.toLowerCase().includes(words);
    }
    event.stopPropagation();
  });
  on("keydown", (event) => {
    const menu = event.target.closest(".items__menu");
    if (!menu) return;
    const shown = [...menu.querySelectorAll("button:not([hidden])")];
    if (event.key === "Enter" && event.target.matches("[data-narrow]")) {
      event.preventDefault();
      shown[0]?.click();
    }
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const at = shown.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
      (shown[at] || menu.querySelector("[data-narrow]")).focus();
    }
  });
  document.addEventListener("toggle", (event) => {
    if (event.target.matches?.(".items__add[open]")) event.target.querySelector("[data-narrow]")?.focus();
  }, true);

  // Whatever the server redraws (add, remove, move, back to standard) changes the form around it.
  on("htmx:afterSettle", (event) => {
    const editor = event.detail.elt?.closest?.(".items") || event.target.closest?.(".items");
    if (!editor || event.detail.target?.matches?.("[data-quiet]")) return;
    mark(editor);
    editor.querySelector("[data-focus]")?.focus();
    editor.closest("form")?.dispatchEvent(new Event("change", { bubbles: true }));
  });

  // Rows by drag: their order is the order in the form.
  let dragged = null;
  on("pointerdown", (event) => {
    const row = event.target.closest(".items__grip")?.closest(".items__row");
    if (row) row.draggable = true;
  });
  on("dragstart", (event) => {
    if (!event.target.matches?.(".items__row")) return;
    dragged = event.target;
    event.dataTransfer.effectAllowed = "move";
    dragged.classList.add("is-dragged");
  });
  on("dragover", (event) => {
    const over = event.target.closest?.(".items__row");
    if (!dragged || !over || over === dragged || over.parentElement !== dragged.parentElement) return;
    event.preventDefault();
    const box = over.getBoundingClientRect();
    over[event.clientY > box.top + box.height / 2 ? "after" : "before"](dragged);
  });
  on("dragend", () => {
    if (!dragged) return;
    const folded = document.getElementById(dragged.id.replace(/-row$/, "-more"));
    if (folded) dragged.after(folded);
    // A row that was dropped between another row and its folded part goes below both.
    for (const part of dragged.parentElement.querySelectorAll(".items__more")) {
      document.getElementById(part.id.replace(/-more$/, "-row"))?.after(part);
    }
    dragged.classList.remove("is-dragged");
    dragged.draggable = false;
    dragged.closest("form")?.dispatchEvent(new Event("change", { bubbles: true }));
    dragged = null;
  });
})();
