/* A look-alike of Stripe.js for the double: plain inputs in the page instead of frames, the same calls and answers. */
(() => {
  const origin = new URL(document.currentScript.src).origin;

  const FIELDS = [
    { name: "number", label: "Card number", hint: "4242 4242 4242 4242", complete: (v) => v.replace(/\s/g, "").length >= 12 },
    { name: "expiry", label: "Expiry", hint: "MM / YY", complete: (v) => /^\s*\d{1,2}\s*\/\s*\d{2}(\d{2})?\s*$/.test(v) },
    { name: "cvc", label: "CVC", hint: "CVC", complete: (v) => /^\d{3,4}$/.test(v.trim()) },
  ];
  const INCOMPLETE = {
    number: ["incomplete_number", "Your card number is incomplete."],
    expiry: ["incomplete_expiry", "Your card's expiration date is incomplete."],
    cvc: ["incomplete_cvc", "Your card's security code is incomplete."],
  };

  class PaymentElement {
    constructor() {
      this.box = null;
      this.inputs = {};
      this.listeners = {};
    }

    mount(target) {
      const place = typeof target === "string" ? document.querySelector(target) : target;
      this.box = document.createElement("div");
      this.box.className = "StripeElement";
      this.box.style.cssText = "display:grid;gap:.75rem;grid-template-columns:1fr 1fr";
      FIELDS.forEach((field) => this.box.append(this.field(field)));
      place.replaceChildren(this.box);
      queueMicrotask(() => this.emit("ready", { elementType: "payment" }));
    }

    field({ name, label, hint }) {
      const wrap = document.createElement("label");
      wrap.style.cssText = name === "number" ? "grid-column:1/-1" : "";
      const text = document.createElement("span");
      text.textContent = label;
      text.style.cssText = "display:block;font-size:.875rem;margin-bottom:.25rem";
      const input = document.createElement("input");
      Object.assign(input, { placeholder: hint, autocomplete: `cc-${name}`, inputMode: "text" });
      input.style.cssText =
        "width:100%;padding:.6rem .7rem;border:1px solid #8884;border-radius:.4rem;background:transparent;color:inherit;font:inherit";
      input.addEventListener("input", () => this.emit("change", this.state()));
      this.inputs[name] = input;
      wrap.append(text, input);
      return wrap;
    }

    state() {
      const values = Object.values(this.inputs).map((input) => input.value);
      return {
        elementType: "payment",
        complete: !this.problem(),
        empty: values.every((value) => !value),
        value: { type: this.isBank() ? "sepa_debit" : "card" },
      };
    }

    /* An IBAN in the first field makes it a bank debit. */
    isBank() {
      return /^\s*[A-Za-z]{2}/.test(this.inputs.number.value);
    }

    problem() {
      const wrong = FIELDS.find(({ name, complete }) => {
        if (this.isBank() && name !== "number") return false;
        return !complete(this.inputs[name].value);
      });
      if (!wrong) return null;
      const [code, message] = INCOMPLETE[wrong.name];
      return { type: "validation_error", code, message };
    }

    method() {
      const number = this.inputs.number.value.replace(/\s/g, "");
      if (this.isBank()) return { type: "sepa_debit", "sepa_debit[iban]": number };
      const [month, year] = this.inputs.expiry.value.split("/").map((part) => part.trim());
      return {
        type: "card",
        "card[number]": number,
        "card[exp_month]": month,
        "card[exp_year]": year.length === 2 ? `20${year}` : year,
        "card[cvc]": this.inputs.cvc.value.trim(),
      };
    }

    on(event, listener) {
      (this.listeners[event] ||= []).push(listener);
      return this;
    }

    emit(event, value) {
      (this.listeners[event] || []).forEach((listener) => listener(value));
    }

    focus() {
      this.inputs.number?.focus();
    }

    update() {}

    unmount() {
      this.box?.remove();
    }

    destroy() {
      this.unmount();
    }
  }

  class Elements {
    constructor(options) {
      this.clientSecret = options.clientSecret;
      this.made = {};
    }

    create(kind) {
      if (!["payment", "card"].includes(kind)) throw new Error(`The double has no element ${kind}.`);
      return (this.made[kind] = new PaymentElement());
    }

    getElement(kind) {
      return this.made[kind] || null;
    }

    update() {}

    async submit() {
      const error = this.element()?.problem();
      return error ? { error } : {};
    }

    async fetchUpdates() {
      return {};
    }

    element() {
      return Object.values(this.made)[0];
    }
  }

  async function call(key, method, path, values = {}) {
    const body = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined));
    const query = method === "GET" && body.size ? `?${body}` : "";
    const answer = await fetch(origin + path + query, {
      method,
      headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/x-www-form-urlencoded" },
      body: method === "GET" ? undefined : body,
    });
    return answer.json();
  }

  const kindOf = (secret) =>
    secret.startsWith("seti_") ? ["setup_intent", "setupIntent", "setup_intents"] : ["payment_intent", "paymentIntent", "payment_intents"];

  function landing(returnUrl, intent, status) {
    const [word] = kindOf(intent.client_secret);
    const url = new URL(returnUrl, location.href);
    url.searchParams.set(word, intent.id);
    url.searchParams.set(`${word}_client_secret`, intent.client_secret);
    url.searchParams.set("redirect_status", status);
    return url.href;
  }

  const never = () => new Promise(() => {});

  function Stripe(key) {
    async function confirm({ elements, clientSecret, confirmParams = {}, redirect = "always" }) {
      const secret = clientSecret || elements.clientSecret;
      const element = elements?.element();
      let method = confirmParams.payment_method;
      if (element) {
        const error = element.problem();
        if (error) return { error };
        const details = confirmParams.payment_method_data?.billing_details || {};
        const billing = Object.fromEntries(
          Object.entries(details)
            .filter(([, value]) => typeof value === "string" && value)
            .map(([name, value]) => [`billing_details[${name}]`, value]),
        );
        const made = await call(key, "POST", "/v1/payment_methods", { ...element.method(), ...billing });
        if (made.error) return made;
        method = made.id;
      }
      const [, , path] = kindOf(secret);
      const intent = await call(key, "POST", `/v1/${path}/${secret.split("_secret_")[0]}/confirm`, {
        client_secret: secret,
        payment_method: method,
        return_url: confirmParams.return_url,
      });
      if (intent.error) return intent;
      return follow(intent, confirmParams.return_url, redirect);
    }

    function follow(intent, returnUrl, redirect) {
      const [, name] = kindOf(intent.client_secret);
      if (intent.status === "requires_action") {
        const action = intent.next_action;
        const page = action.redirect_to_url?.url || action.use_stripe_sdk.stripe_js;
        location.assign(returnUrl ? page : `${page}?return=${encodeURIComponent(location.href)}`);
        return never();
      }
      if (redirect !== "if_required" && returnUrl) {
        location.assign(landing(returnUrl, intent, intent.status === "processing" ? "pending" : "succeeded"));
        return never();
      }
      return { [name]: intent };
    }

    async function retrieve(secret) {
      const [, name, path] = kindOf(secret);
      const intent = await call(key, "GET", `/v1/${path}/${secret.split("_secret_")[0]}`, { client_secret: secret });
      return intent.error ? intent : { [name]: intent };
    }

    return {
      elements: (options = {}) => new Elements(options),
      confirmSetup: confirm,
      confirmPayment: confirm,
      confirmCardPayment: (clientSecret, data = {}) =>
        confirm({ clientSecret, confirmParams: { payment_method: data.payment_method }, redirect: "if_required" }),
      handleNextAction: async ({ clientSecret }) => {
        const found = await retrieve(clientSecret);
        const intent = found.setupIntent || found.paymentIntent;
        return intent?.status === "requires_action" ? follow(intent, null, "if_required") : found;
      },
      retrieveSetupIntent: retrieve,
      retrievePaymentIntent: retrieve,
    };
  }

  Stripe.version = "double";
  window.Stripe = Stripe;
})();
