/* Enable Product works without this file. With it refusals show at their cell while somebody types, the plans can be
   narrowed, and a second click waits for the first. */
(() => {
  "use strict";
  const controls = { more: ["term"], tiers: ["up_to"], name: ["name"], included: ["included", "value", "unlimited"], reset: ["reset"], limit: ["max_overage", "limit"], price: ["amount", "price"] };

  // Refusals of the preview, at their cells: nothing that is being typed is redrawn.
  function mark(panel) {
    const editor = document.querySelector(".enable__items");
    if (!editor?.querySelector(".items")) return;
    for (const error of editor.querySelectorAll(".desk-error")) error.remove();
    for (const wrong of editor.querySelectorAll("[aria-invalid]")) wrong.removeAttribute("aria-invalid");
    for (const found of panel.querySelectorAll("[data-cell-error]")) {
      // "tiers.2.unit" is the third of its name; what is folded away unfolds.
      const [cell, place, part] = found.dataset.cell.split(".");
      const names = (part ? [part] : controls[cell] || [cell]).map((name) => `${found.dataset.cellError}-${name}`);
      const control = names.map((name) => editor.querySelectorAll(`[name="${CSS.escape(name)}"]`)[place || 0]).find(Boolean);
      if (!control) continue;
      const fold = control.closest(".items__more")?.previousElementSibling.querySelector(".items__unfold input");
      if (fold) fold.checked = true;
      control.closest(".items__rest")?.setAttribute("open", "");
      say(control, `${found.dataset.cellError}-${found.dataset.cell}-error`, found);
    }
    // What stands beside the items: fields by their name.
    for (const found of panel.querySelectorAll("[data-field-error]")) {
      const control = editor.querySelector(`[name="${CSS.escape(found.dataset.fieldError)}"]`);
      if (control) say(control, `${found.dataset.fieldError}-error`, found);
    }
  }
  function say(control, id, found) {
    control.closest("details:not([open])")?.setAttribute("open", "");
    control.setAttribute("aria-invalid", "true");
    control.setAttribute("aria-describedby", id);
    const error = Object.assign(document.createElement("p"), { className: "desk-error", id });
    error.textContent = found.querySelector("span").textContent;
    control.closest(".items__tier, .items__field, .desk-field, td").append(error);
  }
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "happens") mark(event.detail.target);
  });
  // A part of the form that was drawn anew (another phase, another line): its numbers are other ones.
  document.addEventListener("htmx:afterSettle", (event) => {
    const body = document.getElementById("deal-body");
    if (body && event.detail.requestConfig?.elt?.name === "do") body.closest("form").dispatchEvent(new Event("change", { bubbles: true }));
  });
  // Signed out meanwhile: the answer is the login page, which does not belong into the column.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target.id !== "happens" || event.detail.isError || event.detail.serverResponse.includes("happens")) return;
    event.detail.serverResponse = '<div class="desk-alert desk-alert--bad" role="alert"><span>You have been signed out. <a class="desk-link" href="">Sign in again</a>; what you typed here is not kept.</span></div>';
  });

  // Plans by their words. The frame is hidden while it loads, so the browser cannot focus by itself.
  window.addEventListener("load", () => document.querySelector("[data-plans][autofocus]")?.focus());
  document.addEventListener("input", (event) => {
    if (!event.target.matches("[data-plans]")) return;
    const box = event.target.closest("details");
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const group of box.querySelectorAll(".enable__group")) {
      let kept = 0;
      for (const row of group.querySelectorAll("[data-words]")) {
        row.hidden = !words.every((word) => row.dataset.words.includes(word));
        kept += !row.hidden;
      }
      group.hidden = !kept;
      shown += kept;
    }
    box.querySelector(".enable__none").hidden = shown > 0;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.matches("[data-plans]")) return;
    event.preventDefault();
    event.target.closest("details").querySelector(".enable__group:not([hidden]) li:not([hidden]) a")?.click();
  });

  // Once is enough
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("[data-once]")) return;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("[data-once]")) delete form.dataset.sent;
  });
})();
