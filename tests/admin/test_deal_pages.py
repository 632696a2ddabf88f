"""Pages of deals: the builder says what typing comes to, errors stand at their cells, the page has every invoice."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from io import BytesIO

import pytest
from django.contrib.auth.models import Group, Permission
from django.urls import reverse
from pypdf import PdfReader

from billing_admin.flows.deal_approval import submit
from billing_admin.flows.deals import accept, amend, create_from, newest, read_terms, save_version, send, void
from billing_admin.flows.undo import undo
from billing_admin.models import ApprovalRule
from deals.models import Deal
from deals.states import DealState
from deals.terms import DealOverride
from tests import builders as a
from tests.admin.deal_desk import DealDesk, begun
from tests.admin.enable_desk import person
from tests.flows.coupon_world import percent
from tests.flows.deal_world import done
from tests.instants import APRIL_1, MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme():
    return a.customer()


@pytest.fixture
def desk(client, acme):
    return DealDesk(client, begun(acme, now=MARCH_1), now=MARCH_16)


def rows_of(answer):
    return [row.name for row in answer.context["rows"]]


# The builder ----------------------------------------------------------------------------------------------------------


def test_the_builder_shows_what_the_base_says_and_what_it_comes_to(desk):
    desk.open()

    assert desk.answer.context["worth"].total == "$600.00"
    assert desk.fields["p0-label"] == "Term"


def test_another_price_shows_its_discount_against_list(desk):
    desk.open().type("p0", "base", amount="40").look()

    worth = desk.answer.context["worth"]
    assert (worth.total, worth.listed, worth.discount) == ("$480.00", "$600.00", "20.00 %")
    assert "was $50.00 / month" in desk.text


def test_a_wrong_price_says_so_at_its_cell_and_keeps_what_was_typed(desk):
    desk.open().type("p0", "base", amount="fourty").save()

    [phase] = desk.answer.context["form"].phases
    assert "is not a number" in phase.items.rows[0].errors["price"]
    assert 'value="fourty"' in desk.text
    assert newest(desk.deal).number == 1


def test_phases_that_are_not_as_long_as_the_term_are_refused(desk):
    desk.open().type(**{"p0-months": "6"}).save()

    assert "The phases are 6 months long, the term 12." in desk.text


def test_a_phase_that_is_added_is_a_copy_and_the_one_before_gets_an_end(desk):
    desk.open().type(**{"p0-label": "Year 1", "term_months": "24"}).type("p0", "base", amount="40").do("phase:add")

    assert desk.fields["phase"].split() == ["p0", "p1"]
    assert (desk.fields["p0-months"], desk.fields["p1-months"]) == ("12", "")
    assert desk.fields["p1-label"] == "Year 2"
    assert desk.fields[f"p1-{desk.row('p1', 'base')}-amount"] == "40"


def test_a_ramp_is_saved_as_another_version(desk):
    desk.open().type(**{"p0-label": "Year 1", "term_months": "24"}).do("phase:add")
    desk.type("p1", "base", amount="60").save(message="Ramp")

    terms = read_terms(newest(desk.deal))
    assert [(p.label, p.months) for p in terms.phases] == [("Year 1", 12), ("Year 2", None)]
    assert newest(desk.deal).message == "Ramp"
    assert desk.message == "Saved version 2 of Acme: Pro."


def test_a_phase_can_be_removed(desk):
    desk.open().do("phase:add").do("phase:remove:p0")

    assert desk.fields["phase"] == "p1"


def test_use_that_is_assumed_is_in_the_invoices_and_said_to_be(desk):
    desk.open().type(**{"p0-use-calls": "3,000"}).look()

    worth = desk.answer.context["worth"]
    assert worth.total == "$840.00"
    assert worth.first[1].note == "use assumed"


def test_use_of_a_later_phase_is_only_said_where_it_differs(desk):
    desk.open().type(**{"term_months": "24", "p0-use-calls": "3000"}).do("phase:add")
    desk.type(**{"p1-use-calls": "5000"}).save()

    terms = read_terms(newest(desk.deal))
    assert [dict(phase.use) for phase in terms.phases] == [{}, {"calls": 5000}]
    assert dict(terms.use) == {"calls": 3000}


def test_coupons_features_and_special_prices_are_lines_of_their_own(desk):
    launch = percent(10)
    desk.open().do("row:coupon").do("row:override").do("row:price")
    desk.type(**{"coupon-c0-code": launch.code, "override-o0-feature": "calls", "override-o0-value": "5,000"})
    desk.type(
        **{"override-o0-until": "3", "price-p0-item": "base", "price-p0-label": "Launch", "price-p0-amount": "30"}
    )
    desk.type(**{"price-p0-cycles": "6"}).save()

    terms = read_terms(newest(desk.deal))
    assert [c.code for c in terms.coupons] == [launch.code]
    assert [(o.feature, o.value, o.from_month, o.until_month) for o in terms.overrides] == [("calls", 5000, 0, 3)]
    assert [(p.item_key, p.components[0].amount, p.cycles) for p in terms.prices] == [("base", 3000, 6)]


def test_what_is_wrong_with_a_line_stands_at_its_cell(desk):
    desk.open().do("row:override").type(**{"override-o0-value": "lots", "override-o0-feature": "calls"}).look()

    assert dict(desk.answer.context["form"].field_errors) == {
        "override-o0-value": "“lots” is not a number. Write it like 1,000 or 0.25."
    }


def test_the_column_beside_the_form_names_the_control_of_each_refusal(desk):
    desk.open().type(**{"p0-months": "six", "term_months": "99"})

    html = desk.live()

    assert 'data-field-error="p0-months"' in html
    assert 'data-field-error="term_months"' in html


def test_the_column_draws_the_units_anew_when_another_item_has_some(desk):
    desk.open().type(**{"units-shown": ""})

    assert 'id="deal-units"' in desk.live()


def test_whoever_was_shown_a_version_is_told_what_the_next_one_changes(desk):
    submit(desk.deal, actor=a.STAFF, now=MARCH_16)
    desk.open().type("p0", "base", amount="40").save()
    refused = desk.answer.context["page"].message_error
    desk.save(message="Cheaper")

    desk.deal.refresh_from_db()
    assert refused.startswith("Say what this version changes")
    assert (desk.deal.state, newest(desk.deal).number) == (DealState.DRAFT, 2)


def test_a_name_and_the_end_of_the_offer_are_saved_without_another_version(desk):
    desk.open().save(name="Acme renewal", expires_on="2026-03-31")

    desk.deal.refresh_from_db()
    assert (desk.deal.name, desk.deal.expires_at, newest(desk.deal).number) == ("Acme renewal", APRIL_1, 1)


def test_opened_again_the_builder_shows_what_was_saved(desk):
    values = {"starts_on": "2026-04-01", "net_terms_days": "30", "renews": "ends", "expires_on": "2026-03-31"}
    desk.open().save(**values)

    shown = desk.open().fields

    assert {name: shown[name] for name in values} == values


def test_access_before_payment_takes_its_own_permission(client, acme):
    """A-53"""
    deal = begun(acme, now=MARCH_1)
    user = person("Sales engineer")
    desk = DealDesk(client, deal, now=MARCH_16)
    user.groups.clear()
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="deals"))

    desk.open().save(activation="now")

    assert desk.answer.status_code == 403


# Beginning ------------------------------------------------------------------------------------------------------------


def test_a_deal_begins_from_a_plan_and_opens_in_the_builder(client, acme):
    a.pro()
    client.force_login(person())

    answer = client.post(
        reverse("admin:deals_deal_add"), {"customer": acme.customer_id, "start": "plan:pro", "term_months": "24"}
    )

    [deal] = Deal.objects.all()
    assert answer.url == reverse("admin:deal_edit", args=[deal.public_id])
    assert (deal.name, deal.customer, read_terms(newest(deal)).term_months) == (f"{acme.name}: Pro", acme, 24)


def test_without_a_customer_it_is_a_template_and_deals_begin_from_it(client, acme):
    a.pro()
    client.force_login(person())
    add = reverse("admin:deals_deal_add")
    client.post(add, {"start": "plan:pro", "term_months": "12", "name": "Standard year"})
    [template] = Deal.objects.templates()

    client.post(add, {"customer": acme.name, "start": f"deal:{template.public_id}", "term_months": "12"})

    assert Deal.objects.get(is_template=False).made_from == template


def test_a_customer_that_several_words_fit_has_to_be_chosen(client):
    a.pro()
    a.customer("Acme One")
    a.customer("Acme Two")
    client.force_login(person())

    answer = client.post(
        reverse("admin:deals_deal_add"), {"customer": "Acme", "start": "plan:pro", "term_months": "12"}
    )

    assert answer.context["form"].errors["customer"] == ["Several customers begin like this; choose one by its id."]


def test_customers_are_suggested_by_how_they_begin(client, acme):
    client.force_login(person())

    answer = client.get(reverse("admin:deal_customers"), {"customer": acme.name[:3]})

    assert f'value="{acme.customer_id}"' in answer.content.decode()


# From draft to executed -----------------------------------------------------------------------------------------------


def test_a_deal_is_submitted_sent_accepted_and_executed_from_its_page(
    desk, mailoutbox, django_capture_on_commit_callbacks
):
    desk.act("deal_submit", reason="Big logo")
    with django_capture_on_commit_callbacks(execute=True):
        desk.act("deal_send", to="cfo@acme.example", subject="Order form", text="Please sign.")
    desk.act("deal_accept", by="Ada Lovelace", on="2026-03-15", how="signed PDF")
    desk.act("deal_execute")

    desk.deal.refresh_from_db()
    [mail] = mailoutbox
    [(name, content, kind)] = mail.attachments
    assert (mail.to, kind, name.endswith(".pdf"), content[:4]) == (
        ["cfo@acme.example"],
        "application/pdf",
        True,
        b"%PDF",
    )
    assert desk.deal.accepted_by == "Ada Lovelace, signed PDF, 15 Mar 2026"
    assert desk.deal.state == DealState.EXECUTED
    assert desk.deal.subscription.customer == desk.deal.customer
    assert "is carried out" in desk.message


def test_without_an_address_it_is_only_marked_as_sent(desk, mailoutbox, django_capture_on_commit_callbacks):
    submit(desk.deal, actor=a.STAFF, now=MARCH_16)

    with django_capture_on_commit_callbacks(execute=True):
        desk.act("deal_send", to="", subject="Order form", text="Please sign.")

    desk.deal.refresh_from_db()
    assert (desk.deal.state, mailoutbox) == (DealState.SENT, [])


def test_a_letter_that_got_lost_is_sent_again(desk, mailoutbox, django_capture_on_commit_callbacks):
    submit(desk.deal, actor=a.STAFF, now=MARCH_16)
    letter = {"to": "cfo@acme.example", "subject": "Order form", "text": "Please sign."}

    with django_capture_on_commit_callbacks(execute=True):
        desk.act("deal_send", **letter)
        desk.act("deal_send", **letter)

    desk.deal.refresh_from_db()
    assert (desk.deal.state, len(mailoutbox)) == (DealState.SENT, 2)


def test_a_rule_makes_it_wait_for_a_second_person_and_the_page_says_for_whom(desk):
    rule_above(10)
    desk.open().type("p0", "base", amount="40").save()

    desk.act("deal_submit", reason="Big logo")

    desk.deal.refresh_from_db()
    assert desk.deal.state == DealState.AWAITING_APPROVAL
    [row] = desk.page().answer.context["approval"]
    assert (row.state[1], row.asked_by, row.reason) == ("Waiting for approval", "sales-engineer", "Big logo")
    assert "Open the request" in desk.text


def rule_above(share):
    finance = Group.objects.get(name="Finance")
    return ApprovalRule.objects.create(act="deal.approved", measure="discount", above=share, approver=finance)


def test_giving_up_takes_a_reason(desk):
    desk.act("deal_void", reason="")
    assert desk.answer.context["form"].errors["reason"]

    desk.act("deal_void", reason="They went elsewhere")

    desk.deal.refresh_from_db()
    assert (desk.deal.state, desk.deal.void_reason) == (DealState.VOID, "They went elsewhere")


def test_what_was_executed_can_be_amended_and_copied(desk):
    for act in (submit, send):
        act(desk.deal, actor=a.STAFF, now=MARCH_16)
    accept(desk.deal, by="Ada", actor=a.STAFF, now=MARCH_16)
    desk.act("deal_execute")

    desk.act("deal_amend", name="More seats")
    desk.act("deal_template", name="Acme's terms")

    assert Deal.objects.get(name="More seats").amends == desk.deal
    assert Deal.objects.get(name="Acme's terms").is_template


def test_a_note_stands_on_the_page(desk):
    desk.act("deal_note", text="Ask for Ada, not for Bob.")

    assert "Ask for Ada, not for Bob." in desk.page().text


# The page -------------------------------------------------------------------------------------------------------------


def test_the_page_has_every_invoice_of_the_term_and_a_bar_for_each_month(desk):
    desk.open().save(term_months="24", starts_on="2026-04-01", activation="now")
    desk.page()

    years = desk.answer.context["years"]
    assert [len(year.invoices) for year in years] == [12, 12]
    assert len(desk.answer.context["chart"].bars) == 24
    assert years[0].invoices[0].money.total == "$50.00"


def test_the_page_shows_an_older_version_and_how_versions_differ(desk):
    desk.open().type("p0", "base", amount="40").save()

    newer = desk.page().answer.context["versions"][0]
    desk.page(version="1")

    assert newer.differences == ("Term: Base fee: $50.00 / month → $40.00 / month",)
    assert desk.answer.context["worth"].total == "$600.00"
    assert not desk.answer.context["buttons"]


def test_as_it_was_on_a_day(desk):
    submit(desk.deal, actor=a.STAFF, now=MARCH_16)
    terms = read_terms(newest(desk.deal))
    save_version(
        desk.deal, terms.__class__.from_json({**terms.to_json(), "term_months": 24}), actor=a.STAFF, now=APRIL_1
    )

    desk.page(at="2026-03-16")

    assert (desk.answer.context["version"].number, desk.answer.context["state"][0]) == (1, "approved")


def test_each_state_has_one_next_step(desk):
    steps = []
    for act in (
        lambda now: submit(desk.deal, actor=a.STAFF, now=now),
        lambda now: send(desk.deal, actor=a.STAFF, now=now),
        lambda now: accept(desk.deal, by="Ada", actor=a.STAFF, now=now),
        lambda now: void(desk.deal, reason="No", actor=a.STAFF, now=now),
    ):
        steps.append([b.label for b in desk.page().answer.context["buttons"] if b.primary])
        act(MARCH_16)

    assert steps == [["Submit for approval"], ["Send"], ["Record acceptance"], ["Execute"]]
    assert desk.page().answer.context["buttons"] == []


def test_the_page_keeps_within_its_queries(desk, django_assert_max_num_queries):
    desk.open().do("phase:add").save(term_months="24")

    with desk.at(), django_assert_max_num_queries(60):
        desk.client.get(desk.url("deals_deal_change"))


# The list -------------------------------------------------------------------------------------------------------------


def test_the_list_shows_what_each_is_worth_and_is_narrowed_by_the_address(desk, acme):
    other = create_from(desk.deal, None, name="Standard year", actor=a.STAFF, now=MARCH_16)
    desk.open().type("p0", "base", amount="40").save()
    address = reverse("admin:deals_deal_changelist")

    def listed(**query):
        with desk.at():
            return desk.client.get(address, query)

    [template, deal] = listed().context["rows"]

    assert (deal.value, deal.monthly, deal.discount, deal.term) == ("$480.00", "$40.00", "20.00 %", "12 months")
    assert (template.name, template.is_template) == (other.name, True)
    assert rows_of(listed(state="template")) == ["Standard year"]
    assert rows_of(listed(state="draft")) == ["Acme: Pro"]
    assert rows_of(listed(q=acme.name[:4])) == ["Acme: Pro"]
    assert rows_of(listed(owner="nobody")) == ["Standard year", "Acme: Pro"]
    assert rows_of(listed(customer=acme.customer_id)) == ["Acme: Pro"]


def test_the_list_keeps_within_its_queries(client, acme, django_assert_max_num_queries):
    first = begun(acme, now=MARCH_1)
    for n in range(5):
        create_from(first, acme, name=f"Deal {n}", actor=a.STAFF, now=MARCH_1)
    client.force_login(person())

    with django_assert_max_num_queries(12):
        client.get(reverse("admin:deals_deal_changelist"))


def test_an_empty_list_offers_to_begin_one(client):
    client.force_login(person())

    html = client.get(reverse("admin:deals_deal_changelist")).content.decode()

    assert "No deals yet" in html
    assert reverse("admin:deals_deal_add") in html


# The order form -------------------------------------------------------------------------------------------------------


def text_of(printed):
    return " ".join(" ".join(page.extract_text() for page in PdfReader(BytesIO(printed)).pages).split())


def test_the_order_form_says_what_is_bought_for_how_long_and_what_will_be_invoiced(desk):
    desk.open().save(
        special_terms="Governed by the master agreement.", net_terms_days="30", starts_on="2026-04-01", activation="now"
    )

    with desk.at():
        printed = desk.client.get(desk.url("deal_pdf"))

    words = text_of(printed.content)
    assert printed["Content-Type"] == "application/pdf"
    for part in (
        "Order form",
        desk.deal.public_id,
        "version 2",
        "Draft: not an offer yet.",
        "Base fee",
        "$50.00 / month",
        "1 Apr 2026 – 1 Apr 2027",
        "within 30 days",
        "Total contract value, net $600.00",
        "1 May 2026 31 May 2026",
        "Governed by the master agreement.",
        "Signature",
        "Page 1 of",
    ):
        assert part in words


def test_the_same_deal_is_the_same_bytes_once_it_was_submitted(desk):
    submit(desk.deal, actor=a.STAFF, now=MARCH_16)
    with desk.at():
        first = desk.client.get(desk.url("deal_pdf")).content
    desk.now += timedelta(days=5)
    with desk.at():
        desk.client.force_login(person())
        second = desk.client.get(desk.url("deal_pdf")).content

    assert first == second
    assert "not an offer" not in text_of(first)


def test_the_order_form_is_a_page_too(desk):
    with desk.at():
        html = desk.client.get(desk.url("deal_form")).content.decode()

    assert "Total contract value, net" in html
    assert "Draft: not an offer yet." in html


# Who may --------------------------------------------------------------------------------------------------------------

ACTS = ["submit", "send", "accept", "execute", "void", "note", "template", "amend", "edit"]


@pytest.mark.parametrize("name", [f"deal_{act}" for act in ACTS])
@pytest.mark.parametrize("role", ["Read-only", "Ops"])
def test_who_may_not_work_on_deals_is_refused_by_page_and_post(client, acme, role, name):
    """A-53"""
    deal = begun(acme, now=MARCH_1)
    client.force_login(person(role))
    address = reverse(f"admin:{name}", args=[deal.public_id])

    assert {client.get(address).status_code, client.post(address, {"reason": "x"}).status_code} == {403}


def test_who_may_only_look_sees_no_buttons(client, acme):
    """A-53"""
    desk = DealDesk(client, begun(acme, now=MARCH_1), now=MARCH_16, role="Read-only")

    desk.page()

    assert (desk.answer.status_code, desk.answer.context["buttons"], desk.answer.context["menu"]) == (200, [], [])


# The customer's page --------------------------------------------------------------------------------------------------


def test_the_customers_page_names_the_deals_that_are_open_or_done(client, acme):
    desk = DealDesk(client, begun(acme, now=MARCH_1), now=MARCH_16)
    create_from(desk.deal, acme, name="Given up", actor=a.STAFF, now=MARCH_1)
    void(Deal.objects.get(name="Given up"), reason="No", actor=a.STAFF, now=MARCH_1)

    with desk.at():
        page = client.get(reverse("admin:customers_customer_change", args=[acme.pk]))

    [row] = page.context["deals"].rows
    assert (row.name, row.state, row.value, row.term) == ("Acme: Pro", ("draft", "Draft"), "$600.00", "12 months")
    assert f"customer={acme.customer_id}" in page.context["deals"].new_url


# Carried out ----------------------------------------------------------------------------------------------------------


def carried_out(desk, **changes):
    terms = replace(read_terms(newest(desk.deal)), **{"activation": "now", **changes})
    save_version(desk.deal, terms, actor=a.STAFF, now=MARCH_1)
    desk.deal = done(desk.deal)
    return desk


def test_the_page_says_that_access_of_a_start_to_come_waits_for_its_payment(desk):
    """Y-24"""
    terms = replace(read_terms(newest(desk.deal)), starts_at=APRIL_1, activation="after_payment")
    save_version(desk.deal, terms, actor=a.STAFF, now=MARCH_1)
    assert "Access begins once the invoice of 1 Apr 2026 is paid; unpaid after 24 hours" in desk.page().text

    desk.deal = done(desk.deal)

    assert "its first invoice is issued then, and access begins once that is paid" in desk.page().text
    with desk.at():
        page = desk.client.get(reverse("admin:customers_customer_change", args=[desk.deal.customer.pk]))
    assert "access begins once that is paid" in page.content.decode()


def test_the_page_lists_what_was_taken_back_of_a_deal(desk):
    """Y-47"""
    carried_out(desk, overrides=(DealOverride("calls", Decimal(2000), 0, 6),))
    act = desk.deal.customer.operations.get(verb="override.given")

    line = undo(act, reason="a typing error", actor=a.STAFF, now=MARCH_16)

    rows = {row.summary: row.undone_url for row in desk.page().answer.context["parts"]}
    assert rows[act.summary].endswith(line.public_id)
    assert desk.answer.context["undone"] == f"1 of {len(rows)} parts taken back"


def test_the_page_of_an_amendment_says_what_it_changes_and_what_is_left_to_be_invoiced(desk):
    """Y-46"""
    carried_out(desk)
    desk.deal = amend(desk.deal, name="Amended", actor=a.STAFF, now=MARCH_16)
    terms = read_terms(newest(desk.deal))
    phases = tuple(replace(phase, commitment=Decimal(70)) for phase in terms.phases)
    save_version(desk.deal, replace(terms, phases=phases), actor=a.STAFF, now=MARCH_16)
    desk.deal = done(desk.deal, now=MARCH_16)

    desk.page()

    assert "What is still to be invoiced" in desk.text
    assert desk.answer.context["changed"] == ["Term: at least nothing → $70.00 a period"]
    assert desk.answer.context["years"][0].invoices[0].at == APRIL_1


def test_a_deal_whose_contract_is_another_by_now_says_so(desk):
    a.enable(desk.deal.customer, desk.deal.base_version.plan, now=MARCH_1)

    assert "can be neither sent nor carried out" in desk.page().text
