"""The scripts as a page: complete, linked, and made of one file.    pytest tests/test_annotate.py

pytest tests/test_annotate.py -m ""    also in a browser, if chromium is installed
"""

import ast
import base64
import html
import json
import re
import shutil
import subprocess

import pytest

from docs import annotate

SOURCES = {script: (annotate.HOME / f"{script}.py").read_text() for script in annotate.SCRIPTS}
PAGE = annotate.page()


def text_of(fragment):
    return html.unescape(re.sub(r"<[^>]+>", "", fragment))


def prose_of(source):
    """The numbers of the lines that are comments or belong to docstrings."""
    found = {i for i, line in enumerate(source.splitlines()) if line.lstrip().startswith("#")}
    kinds = ast.Module, ast.FunctionDef, ast.ClassDef
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, kinds) and ast.get_docstring(node):
            found.update(range(node.body[0].lineno - 1, node.body[0].end_lineno))
    return found


def test_the_command_writes_the_page_and_says_where(tmp_path, capsys):
    annotate.main([str(tmp_path / "a.html")])
    assert (tmp_path / "a.html").read_text() == PAGE
    assert capsys.readouterr().out == f"{tmp_path / 'a.html'}\n"


@pytest.mark.parametrize("name", ["train.py", "", ".html"])
def test_a_script_named_by_mistake_is_not_overwritten(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("theirs")
    with pytest.raises(SystemExit):
        annotate.main([name])
    assert "must end in .html" in capsys.readouterr().err
    assert (tmp_path / "train.py").read_text() == "theirs"


@pytest.mark.parametrize("script", SOURCES)
def test_every_line_is_on_the_page_once_code_on_the_right_and_prose_on_the_left(script):
    part = re.search(rf'<h2 id="{script}">(.*?)<h2 ', PAGE, re.S)[1]
    lines, prose = SOURCES[script].splitlines(), prose_of(SOURCES[script])
    right = [line for piece in re.findall('<pre class="code">(.*?)</pre>', part, re.S)
             for line in text_of(piece).splitlines() if line.strip()]
    assert right == [line for i, line in enumerate(lines) if i not in prose and line.strip()]
    left = [word for piece in re.findall(r'<div class="prose">(.*?)</div>', part, re.S)
            for word in text_of(re.sub("<br>|</p>|</pre>", " ", piece)).split()]
    expected = "\n".join(re.sub(r"^\s*# ?(-{20,})?", "", lines[i]) for i in sorted(prose))
    assert left == re.sub('"""|`', "", expected).split()


def test_only_parameters_and_sentences_start_a_line_of_their_own():
    doc = ["Add x, Sec. 3.", "", "x: (N,)", "f, h: networks   returns: (N,)", "It adds and also",
           "multiplies:", "all of them."]
    joined = "It adds and also multiplies: all of them."
    assert annotate.prose_html(doc, of_definition=True).split("\n")[1] == (
        f"<p>x: (N,)<br>f, h: networks&emsp; returns: (N,)<br>{joined}</p>")
    comment = ["Its outputs come from", "another network: here the", "lr is high.", "here: not so."]
    assert annotate.prose_html(comment) == (
        "<p>Its outputs come from another network: here the lr is high.<br>"
        "<b>here:</b> not so.</p>")


def test_all_links_lead_to_places_of_the_page_but_one_to_the_paper():
    ids = re.findall(r' id="([^"]+)"', PAGE)
    assert len(ids) == len(set(ids))
    addresses = re.findall(r'<a href="([^"]+)"', PAGE)
    assert {a for a in addresses if a[0] != "#"} == {"https://arxiv.org/abs/2011.10566"}
    assert {a[1:] for a in addresses if a[0] == "#"} <= set(ids)


def test_the_page_needs_nothing_beside_it():
    sources = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", PAGE)
    assert {s.partition(",")[0] for s in sources if not s.startswith(("#", "https://arxiv"))} == {
        "data:", "data:image/svg+xml;base64", "data:image/png;base64"}
    assert not re.search(r"<script|@import|<link rel=\"stylesheet", PAGE)
    pictures = [base64.b64decode(p) for p in re.findall(r'src="data:[^,]*,([^"]+)"', PAGE)]
    files = [annotate.HOME / path for path, _ in annotate.FIGURES.values()]
    assert pictures == [file.read_bytes() for file in files]


def test_a_name_leads_to_its_definition_and_no_local_name_hides_one():
    for use in ("simsiam.negative_cosine", "simsiam.SimSiam.f", "optim.SGD",
                "lineval.extract_features"):
        assert f'<a href="#{use}"><span' in PAGE, use
    for script, source in SOURCES.items():
        tree = ast.parse(source)
        known = {name for name, _ in annotate.definitions(tree)}
        known |= {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)
                  and n.module in SOURCES for a in n.names}
        local = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)
                 and isinstance(n.ctx, ast.Store)}
        local |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
        assert not known & local, script


def test_a_place_of_the_paper_leads_to_each_row_that_names_it():
    for script, source in SOURCES.items():
        lines = source.splitlines()
        for row in annotate.rows(source):
            for tag in annotate.tags("\n".join([*row.prose, *(lines[i - 1] for i in row.code)])):
                place = re.search(rf'id="{annotate.anchor(tag)}">.*?</p>', PAGE, re.S)[0]
                assert not row.name or f'href="#{script}.{row.name}"' in place
    assert re.search(r'id="paper-Eq-1">.*?#simsiam.negative_cosine', PAGE)


LOOK = """<script>addEventListener("load", () => parent.postMessage(JSON.stringify({
    widths: [document.documentElement.scrollWidth, innerWidth],
    broken: [...document.links].filter(a => a.getAttribute("href")[0] == "#"
        && !document.getElementById(a.getAttribute("href").slice(1))).length,
    pictures: [...document.images].map(i => i.naturalWidth > 0),
    requests: performance.getEntriesByType("resource").map(e => e.name)
        .filter(name => !name.startsWith("data:"))}), "*"))</script></body>"""
FRAME = """<iframe src="page.html" style="width: {}px; height: 900px; border: 0"></iframe>
    <script>addEventListener("message", e => document.title = e.data)</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", (1280, 390))
def test_a_browser_shows_it_without_errors_or_requests_and_as_wide_as_its_window(width, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("no chromium")
    (tmp_path / "page.html").write_text(PAGE.replace("</body>", LOOK))
    # In a frame, as no window is narrower than 500 px.
    (tmp_path / "frame.html").write_text(FRAME.format(width))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               "--enable-logging=stderr", "--virtual-time-budget=5000", "--window-size=1400,1000",
               f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run([chromium, *options, "--dump-dom", (tmp_path / "frame.html").as_uri()],
                          capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    found = json.loads(html.unescape(re.search("<title>(.*?)</title>", done.stdout)[1]))
    assert found == {"widths": [width, width], "broken": 0, "pictures": [True, True],
                     "requests": []}
