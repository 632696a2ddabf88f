/* Hands what a customer types to Stripe's own form, and says what Stripe says. */
(() => {
  "use strict";
  const form = document.getElementById("method");
  const place = document.getElementById("payment-element");
  const problem = document.getElementById("problem");
  const again = document.getElementById("again");
  const button = form.querySelector("button");
  const label = button.textContent;
  const { key, secret, back, email, blocked, saving } = form.dataset;

  function say(text) {
    problem.textContent = text;
    problem.hidden = !text;
  }

  function busy(is) {
    button.disabled = is;
    button.textContent = is ? saving : label;
  }

  function failed(text) {
    place.replaceChildren();
    place.removeAttribute("aria-busy");
    button.hidden = true;
    again.hidden = false;
    say(text);
  }

  again.addEventListener("click", (event) => {
    event.preventDefault();
    location.reload();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  if (!window.Stripe) {
    failed(blocked);
    return;
  }

  const locale = document.documentElement.lang;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const stripe = window.Stripe(key, { locale });
  const elements = stripe.elements({
    clientSecret: secret,
    appearance: { theme: dark ? "night" : "stripe", variables: { borderRadius: "8px", fontSizeBase: "15px" } },
  });
  const element = elements.create("payment", { defaultValues: { billingDetails: { email } } });
  place.replaceChildren();
  element.mount(place);
  element.on("ready", () => {
    place.removeAttribute("aria-busy");
    button.disabled = false;
  });
  element.on("loaderror", () => failed(blocked));
  element.on("change", () => say(""));

  form.addEventListener("submit", async () => {
    if (button.disabled) return;
    busy(true);
    say("");
    try {
      const { error } = await stripe.confirmSetup({ elements, confirmParams: { return_url: back } });
      // Without an error the browser is on its way to another page.
      if (error) say(error.message || blocked);
    } catch {
      say(blocked);
    }
    busy(false);
  });
})();
