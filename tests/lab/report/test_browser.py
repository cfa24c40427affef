"""The page as a real browser renders it."""

import json

import pytest

from keras_pep.lab.report import read_runs, write_page, write_report
from tests.runs import BUDGETS, HOSTILE, unfinish, vocabularies, write_run

pytest.importorskip("playwright.sync_api", reason="playwright is missing")

from docs.screenshots import PHONE, open_browser, opened

CHARTS = (
    *("auc", "logloss", "steps", "epochs", "frequency", "top-0"),
    *("field-size", "field-share", "bytes"),
)
DESKTOP = {"width": 1200, "height": 900}


@pytest.fixture(scope="module")
def browser():
    opening = open_browser()
    try:
        found = opening.__enter__()
    except FileNotFoundError as error:
        pytest.skip(f"no browser: {error}")
    yield found
    opening.__exit__(None, None, None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = write_run(tmp_path_factory.mktemp("report") / "run")
    write_report(run)
    return run


# Younger than the browsers of 2020.
LATER = """
for (const [owner, ...names] of [
  [Object, "hasOwn", "groupBy"], [window, "Iterator", "structuredClone"],
  [Array.prototype, "at", "findLast", "findLastIndex", "toReversed",
    "toSorted", "toSpliced", "with"],
  [String.prototype, "at", "isWellFormed"],
  [Element.prototype, "replaceChildren", "checkVisibility"],
  [Object.getPrototypeOf(Object.getPrototypeOf([].keys())), "map", "filter",
    "toArray", "some", "every", "find", "reduce", "forEach", "flatMap", "take",
    "drop"],
  [Set.prototype, "union", "difference", "intersection"],
  [Promise, "any", "withResolvers"], [Map, "groupBy"],
]) for (const name of names) delete owner[name];
"""


@pytest.fixture
def page(browser, run):
    with opened(browser, run / "report.html", DESKTOP) as page:
        yield page


@pytest.fixture
def phone(browser, run):
    settings = {"is_mobile": True, "has_touch": True}
    with opened(browser, run / "report.html", PHONE, **settings) as page:
        yield page


def drawn(page, chart):
    """What Plotly has been given."""
    return page.evaluate(
        "id => document.getElementById(id).data.map(({x, y, name, hovertext})"
        " => ({x: [...x], y: [...y], name, hovertext}))",
        chart,
    )


def points(page, chart):
    return page.locator(f"#{chart} .points path.point").count()


def choose(page, what, label):
    page.locator(f"#{what}").select_option(label=label)


def test_it_is_drawn_without_errors_from_one_file(browser, run):
    context = browser.new_context(viewport=DESKTOP, offline=True)
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    address = (run / "report.html").as_uri()
    page.goto(address)
    assert page.title() == "FM on <i>clicks</i> - keras-pep"
    assert page.locator("h1").inner_text() == "FM on <i>clicks</i>"
    for chart in CHARTS:
        assert page.locator(f"#{chart} .main-svg").count() >= 2
    assert page.locator("figcaption").count() == 4
    for field in ("user", "price", "all fields"):
        choose(page, "field", field)
    choose(page, "split", "validation")
    assert said == []
    assert asked == [address]
    context.close()


def test_browsers_of_2020_draw_it(browser, run):
    context = browser.new_context(viewport=DESKTOP, offline=True)
    context.add_init_script(LATER)
    page = context.new_page()
    said = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((run / "report.html").as_uri())
    assert said == []
    assert page.evaluate("[].at ?? [].keys().filter ?? Object.hasOwn") is None
    for chart in CHARTS:
        assert page.locator(f"#{chart} .main-svg").count() >= 2
    for field in ("user", "price", "all fields"):
        choose(page, "field", field)
    assert said == []
    context.close()


def test_fields_whose_names_are_cut_are_chosen_one_by_one(browser, tmp_path):
    alike = [f"{'x' * 79}{middle}{'y' * 79}" for middle in "ab"]
    fields = dict(zip(alike, vocabularies().values(), strict=True))
    run = write_run(tmp_path / "run", fields=fields)
    other = write_run(tmp_path / "other", fields=dict([*fields.items()][::-1]))
    path = tmp_path / "compare.html"
    for runs in ([run], [run, other]):
        write_page(read_runs(runs), path)
        with opened(browser, path, DESKTOP) as page:
            options = page.locator("#field option").all_inner_texts()
            assert options == ["all fields", *["x" * 59 + "…" + "y" * 20] * 2]
            shown = []
            for option, features in ((1, 31), (2, 4)):
                page.locator("#field").select_option(index=option)
                shown.append(drawn(page, "top-0"))
                note = page.locator("#frequency-note").inner_text()
                assert note.count(f"{features} features of the field") == len(
                    runs
                )
            assert shown[0] != shown[1]
            assert len(drawn(page, "field-size")[0]["x"]) == 2 * len(runs)


def test_what_is_drawn_are_the_figures_of_the_run(page, run):
    metrics = json.loads((run / "metrics.json").read_text())
    for split in ("test", "validation"):
        choose(page, "split", split)
        for chart in ("auc", "logloss"):
            dense, searched, magnitude = drawn(page, chart)
            assert dense["y"] == [metrics["dense"][split][chart]]
            for trace, entries in (
                (searched, metrics["budgets"]),
                (magnitude, metrics["baselines"]),
            ):
                assert trace["x"] == [20, 60]
                assert trace["y"] == [e[split][chart] for e in entries[::-1]]
            assert points(page, chart) == 5
    search, tickets, *_ = drawn(page, "steps")
    assert (search["x"], search["y"]) == ([8, 400, 600], [280, 90, 20])
    assert (tickets["x"], tickets["y"]) == ([600, 200], [60, 20])
    stages = drawn(page, "epochs")
    assert len(stages) == 7
    for stage in stages:
        assert (stage["x"], stage["y"]) == ([1, 2, 3], [0.7, 0.75, 0.74])
    assert page.locator("#epochs .legendtext").all_text_contents() == [
        *("full table", "keras-pep: search", "keras-pep"),
        *("magnitude: search", "magnitude"),
    ]
    (bars,) = drawn(page, "bytes")
    entries = [metrics["dense"], *metrics["budgets"], *metrics["baselines"]]
    assert bars["x"] == [entry["bytes"] for entry in entries]
    texts = page.locator("#bytes .bartext").all_text_contents()
    # 1,540 bytes, 440 and 240.
    smaller = ["440 B, 3.5× smaller", "240 B, 6.4× smaller"]  # noqa: RUF001
    assert texts == ["1.54 kB", *smaller, *smaller]
    table = page.locator("#quality table")
    assert table.locator("tbody tr").count() == 5
    assert "0.7487" in table.inner_text()


def test_a_field_and_a_budget_are_chosen(page, run):
    features = read_runs([run])[0].features
    everything = len(features.drawn["name"])
    assert points(page, "frequency") >= everything  # and those of means
    first = drawn(page, "top-0")
    choose(page, "field", "price")
    assert len(drawn(page, "frequency")[0]["x"]) == 4
    assert drawn(page, "top-0") != first
    for text in drawn(page, "top-0")[0]["hovertext"]:
        assert text.startswith("price: ")
    choose(page, "field", "user")
    assert len(drawn(page, "frequency")[0]["x"]) == everything - 4
    for budget, place in zip(BUDGETS, (0, 1), strict=True):
        choose(page, "budget", str(budget))
        kept = features.budgets[place]["kept"]
        (bars,) = drawn(page, "field-share")
        assert bars["x"] == pytest.approx([k / sum(kept) for k in kept])
        sizes = features.drawn["sizes"][place]
        top = features.budgets[place]["top"][1]  # of the first field
        assert drawn(page, "top-0")[0]["x"] == [sizes[i] for i in top]
        assert page.locator("#top-0 .points .point").count() == len(top)
        y = [y for points in drawn(page, "frequency")[:1] for y in points["y"]]
        assert [round(value) for value in y] == sizes[: len(y)]
    faint = "id => document.getElementById(id).data[0].marker.opacity"
    assert page.evaluate(faint, "field-size") == [1, 0.3]
    choose(page, "field", "all fields")
    assert page.evaluate(faint, "field-size") == [1, 1]


def test_names_stay_text_on_axes_and_under_the_mouse(page):
    choose(page, "budget", "60")
    choose(page, "field", "user")
    shown = page.locator("#top-0 .ytick text").all_text_contents()
    known = page.locator("#top-0").evaluate("node => node.data[0].hovertext")
    for name in HOSTILE[:3]:
        place = next(i for i, text in enumerate(known) if escaped(name) in text)
        assert shown[place].strip() == cut(name)
        page.evaluate(
            "place => Plotly.Fx.hover('top-0', [{curveNumber: 0, "
            "pointNumber: place}])",
            place,
        )
        label = page.locator("#top-0 .hoverlayer .hovertext")
        label.filter(has_text=f"user: {name}").wait_for(timeout=5000)
    assert page.locator("img").count() == 0
    assert page.locator("#top-0 script").count() == 0


def escaped(name):
    for raw, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        name = name.replace(raw, safe)
    return name


def cut(name, longest=40):
    end = longest // 4
    if len(name) <= longest:
        return name
    return f"{name[: longest - end - 1]}…{name[-end:]}"


def test_what_gets_in_all_the_same_does_not_run(page):
    """If something were not escaped, the page's policy would stop it."""
    stopped = page.evaluate(
        """async () => {
          const found = [];
          document.addEventListener(
            "securitypolicyviolation", (e) => found.push(e.effectiveDirective));
          document.body.insertAdjacentHTML(
            "beforeend", "<img src='https://example.org/x.png'>");
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.append(script);
          await fetch("https://example.org/").catch(() => null);
          await new Promise((done) => setTimeout(done, 300));
          return [window.ran ?? false, found.sort()];
        }"""
    )
    assert stopped == [False, ["connect-src", "img-src", "script-src-elem"]]


def test_a_phone_shows_all_of_it(phone):
    wide = phone.evaluate("document.documentElement.scrollWidth")
    assert wide == PHONE["width"]
    boxes = phone.evaluate(
        """() => [...document.querySelectorAll(
             "h1, h2, h3, p, td, th, dd, select, .chart, .main-svg"
           )].filter((node) => node.checkVisibility())
             .map((node) => node.getBoundingClientRect())
             .map(({left, right}) => [left, right])"""
    )
    assert min(left for left, _ in boxes) >= 0
    assert max(right for _, right in boxes) <= PHONE["width"]
    smallest = phone.evaluate(
        """Math.min(...[...document.querySelectorAll("p, td, dd, text")]
             .filter((node) => node.textContent.trim())
             .map((node) => parseFloat(getComputedStyle(node).fontSize)))"""
    )
    assert smallest >= 12
    # Of axes too: nothing is cut off at the edge.
    ticks = phone.evaluate(
        """[...document.querySelectorAll(".ytick text, .xtick text, .bartext")]
             .map((node) => node.getBoundingClientRect())
             .map(({left, right}) => [left, right])"""
    )
    assert min(left for left, _ in ticks) >= 0
    assert max(right for _, right in ticks) <= PHONE["width"]


def test_light_and_dark(browser, run):
    colors = {}
    for scheme in ("light", "dark"):
        path = run / "report.html"
        with opened(browser, path, DESKTOP, color_scheme=scheme) as page:
            colors[scheme] = page.evaluate(
                """["body", "#auc .xtick text"].map((where) => {
                     const style = getComputedStyle(
                       document.querySelector(where));
                     return where === "body" ? style.backgroundColor
                       : style.fill;
                   }).map((color) => color.match(/\\d+/g).slice(0, 3)
                     .reduce((sum, part) => sum + Number(part), 0) / 765)"""
            )
    page, text = colors["light"]
    assert page > 0.9
    assert text < 0.3
    page, text = colors["dark"]
    assert page < 0.2
    assert text > 0.7


def test_a_run_of_before_says_what_it_lacks(browser, tmp_path):
    run = write_run(tmp_path / "run")
    for name in ("counts.npy", "kept.csv"):
        (run / name).unlink()
    with opened(browser, write_report(run), DESKTOP) as page:
        assert "not noted what was kept" in page.locator("#steps").inner_text()
        note = page.locator("#frequency-note").inner_text()
        assert "not noted how often training has each feature" in note
        assert page.locator("#top-0 .points .point").count() > 0
    (run / "vocabularies.json").unlink()
    with opened(browser, write_report(run), DESKTOP) as page:
        features = page.locator("#features").inner_text()
        assert "not noted which features there are" in features
        assert page.locator("#bytes .main-svg").count() >= 2


def test_an_unfinished_run_shows_what_is_known(browser, tmp_path):
    run = unfinish(write_run(tmp_path / "run"))
    with opened(browser, write_report(run), DESKTOP) as page:
        notice = page.locator(".notice").inner_text()
        assert (
            "Unfinished. Finished stages: dense, search, budget-60." in notice
        )
        assert f"keras-pep train --resume {run}" in notice
        dense, searched = drawn(page, "auc")
        assert (dense["x"], searched["x"]) == ([280], [60])
        assert len(drawn(page, "epochs")) == 4
        options = page.locator("#budget option").all_inner_texts()
        assert options == ["60", "20"]  # tickets, with or without a model
        for chart in CHARTS:
            assert page.locator(f"#{chart} .main-svg").count() >= 2


def test_a_run_that_has_just_begun_has_a_page(browser, tmp_path):
    run = write_run(tmp_path / "run")
    for path in run.iterdir():
        if path.name != "config.json":
            path.unlink()
    said = []
    report = write_report(run)
    context = browser.new_context(viewport=DESKTOP, offline=True)
    page = context.new_page()
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report.as_uri())
    choose(page, "split", "validation")
    assert said == []
    assert page.locator(".main-svg").count() == 0
    for section, text in (
        ("quality", "No model has figures yet."),
        ("search", "The search has not got so far yet."),
        ("training", "No epoch is over yet."),
        ("features", "The search is not over yet."),
        ("bytes-section", "Nothing is known yet."),
        ("origin", "keras-pep train --dataset 'a <b> & c.csv'"),
    ):
        assert text in page.locator(f"#{section}").inner_text()
    context.close()


def test_runs_are_compared(browser, run, tmp_path):
    other = write_run(tmp_path / "<b>other", baselines=False, gain=0.01)
    path = tmp_path / "compare.html"
    write_page(read_runs([run, other]), path)
    with opened(browser, path, DESKTOP) as page:
        assert page.locator("h1").inner_text() == "2 runs compared"
        traces = drawn(page, "auc")
        assert [trace["name"] for trace in traces] == [
            "run: full table",
            "run: keras-pep",
            "run: magnitude",
            "&lt;b&gt;other: full table",
            "&lt;b&gt;other: keras-pep",
        ]
        assert traces[4]["y"] == [0.7501, 0.7587]
        legend = page.locator("#auc .legendtext").all_text_contents()
        assert "<b>other: keras-pep" in legend
        assert page.locator("#top .chart").count() == 2
        assert len(drawn(page, "bytes")[0]["x"]) == 5 + 3
        assert page.locator("#top h4").all_inner_texts() == [
            "run, budget 20",
            "<b>other, budget 20",
        ]
        assert len(drawn(page, "field-size")[0]["x"]) == 2 * 2


def test_runs_of_other_budgets_are_compared_by_the_closest(
    browser, run, tmp_path
):
    other = write_run(tmp_path / "other", budgets=(50, 25))
    path = tmp_path / "compare.html"
    write_page(read_runs([run, other]), path)
    with opened(browser, path, DESKTOP) as page:
        for chosen, shown in (("60", (60, 50)), ("25", (20, 25))):
            choose(page, "budget", chosen)
            assert page.locator("#top h4").all_inner_texts() == [
                f"run, budget {shown[0]}",
                f"other, budget {shown[1]}",
            ]
