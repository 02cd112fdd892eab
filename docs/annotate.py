"""The scripts as one HTML page: prose on the left, the code it explains on the right.

    python docs/annotate.py [OUT.html]        writes annotated.html, which works offline

Each row of the page is a docstring with its definition, or a block of comments with the lines below
it. Beside it are the sections and equations that it names, with links to other places that name
them. A name in the code leads to its definition. options.py is left out: see train.py --help.
"""

import argparse
import ast
import base64
import io
import pathlib
import re
import sys
import textwrap
import tokenize
from html import escape
from typing import NamedTuple

from pygments.formatters import HtmlFormatter  # pygments comes with pytest
from pygments.lexers import PythonLexer
from pygments.token import STANDARD_TYPES

HOME = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOME))

from utils.arguments import ending
from utils.console import plain_errors
from utils.runs import atomic_write

SCRIPTS = "simsiam", "augment", "resnet", "optim", "train", "lineval"
FIGURES = {  # shown below the head of a script
    "simsiam": ("docs/method.svg", "Fig. 1: two views, one encoder, a predictor on one side."),
    "train": ("experiments/results/photographs/figures/fig2_stopgrad.png",
              "Fig. 2 on CIFAR-10 (JPEG), resnet8. Lines: seed 0; circles: three seeds."),
}
LONG = {"Section": "Sec.", "Figure": "Fig.", "Appendix": "App."}
TAG = re.compile(r"(Algorithm 1)|(Eq\.|Sec\.|Section|Table|Fig\.|Figure|App\.|Appendix)\s+"
                 r"([A-D](?:\.\d)?|\d+(?:\.\d)?)(?: (\([a-d]\)))?")


def tags(text):
    """The parts of the paper that a text names, such as "Sec. 4.4"; not those of other papers.

    Those are in parentheses with "arXiv".
    """
    text = re.sub(r"\([^()]*arXiv[^()]*\)", "", text)
    return {m[1] or " ".join(filter(None, (LONG.get(m[2], m[2]), m[3], m[4])))
            for m in TAG.finditer(text)}


# ------------------------------------------------------------------------------------------------
# Rows.


class Row(NamedTuple):
    """A piece of prose and the lines of code that it explains."""

    name: str  # of the definition that starts here, such as "SimSiam.forward"; or ""
    prose: list  # lines
    code: list  # numbers of lines, from 1


def definitions(tree, prefix=""):
    """(name, node) of the functions and classes of a module, methods included."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from definitions(node, f"{prefix}{node.name}.")


def rows(source):
    """The rows of a script, in order; every line of code is in exactly one of them."""
    tree, lines = ast.parse(source), source.splitlines()
    comments = {token.start[0] for token in tokenize.generate_tokens(io.StringIO(source).readline)
                if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")}
    starts, docs = {}, {}  # {line: name}, {line: lines of the docstring}
    for name, node in [("", tree), *definitions(tree)]:
        start = min(n.lineno for n in [node, *node.decorator_list]) if name else 1
        starts[start] = name
        if ast.get_docstring(node):
            first = node.body[0]
            docs[start] = range(first.lineno, first.end_lineno + 1)
    prose_lines = comments.union(*docs.values())
    found = []
    for i, line in enumerate(lines, start=1):
        if i in starts:
            text = [lines[k - 1] for k in docs.get(i, ())]
            found.append(Row(starts[i], [part.replace('"""', "") for part in text], []))
        elif i in comments and i - 1 not in comments:
            found.append(Row("", [], []))
        if i in comments:
            found[-1].prose.append(re.sub(r"# ?", "", line, count=1))
        elif i not in prose_lines:
            found[-1].code.append(i)
    return found


# ------------------------------------------------------------------------------------------------
# Prose and code as HTML.


def prose_html(lines, of_definition=False):
    """Lines of a docstring or comment as paragraphs; indented ones are tables, kept as they are.

    of_definition: whether they are a function's or a class's docstring, which describes parameters
    """
    indents = [len(v) - len(v.lstrip()) for v in lines[1:] or lines if v.strip()]
    width = 98 - min(indents, default=0)
    first, _, rest = "\n".join(lines).partition("\n")
    text = f"{first.strip()}\n{textwrap.dedent(rest)}".strip("\n")
    blocks = []
    for block in re.split(r"\n\s*\n", text):
        if re.search(r"^ {2,}", block, re.M):
            blocks.append(f"<pre>{escape(textwrap.dedent(block))}</pre>")
            continue
        out = ""
        for line, after in zip(block.split("\n"), [*block.split("\n")[1:], ""]):
            # A line break before a sentence whose first word would still have fitted is intended.
            fits = len(line) + 1 + len(after.partition(" ")[0]) <= width
            sentence = fits and re.match("[A-Z]|here:", after)
            parameter = of_definition and re.match(r"\w+(, \w+)*: ", after)
            out += escape(line) + ("<br>" if sentence or parameter else " ")
        out = re.sub("`([^`]+)`", r"<code>\1</code>", out.strip()).replace("   ", "&emsp; ")
        out = re.sub(r"\bhere:", "<b>here:</b>", out)
        blocks.append(f"<p>{out}</p>")
    return "\n".join(blocks)


def links(script, source, defined):
    """{(line, column): address} of all uses of names that some script defines.

    defined: {script: names of its definitions}, none of which is a local variable elsewhere
    """
    tree, lines, found = ast.parse(source), source.splitlines(), {}
    known = {name: f"#{script}.{name}" for name in defined[script]}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            known.update({a.name: f"#{node.module}.{a.name}" for a in node.names
                          if a.name in defined.get(node.module, ())})

    def add(node, name, column):  # column: in bytes, as ast counts
        if name in known:
            before = lines[node.lineno - 1].encode()[:column].decode()
            found[node.lineno, len(before)] = known[name]

    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.alias)):
            add(node, getattr(node, "id", None) or node.name, node.col_offset)
        for part in ast.walk(node) if isinstance(node, ast.ClassDef) else ():
            if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "self":
                add(part, f"{node.name}.{part.attr}", part.end_col_offset - len(part.attr))
    return found


def code_html(source, found):
    """The lines of a script in colour, with links at each (line, column) of `found`."""
    out, line, column = [""], 1, 0
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens(source):
        while kind not in STANDARD_TYPES:
            kind = kind.parent
        for piece in re.split(r"(\n)", text):
            if piece == "\n":
                out, line, column = [*out, ""], line + 1, 0
            elif piece:
                html = f'<span class="{STANDARD_TYPES[kind]}">{escape(piece)}</span>'
                address = found.get((line, column))
                out[-1] += f'<a href="{address}">{html}</a>' if address else html
                column += len(piece)
    return out


# ------------------------------------------------------------------------------------------------
# The page.

STYLE = """
:root { --ink: #222; --dim: #667; --paper: #fff; --code: #f6f7f9; --line: #e3e5ea;
  --link: #0a58a8; }
body { margin: 0 auto; max-width: 90rem; padding: 0 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
h1 { margin: 1.5rem 0 0.5rem; } h2 { margin: 3rem 0 0.5rem; }
nav a, .prose a, .tags a { margin-right: 0.6em; white-space: nowrap; }
.row { display: grid; grid-template-columns: 5.5rem minmax(0, 1fr) minmax(0, 47rem); gap: 0 1.2rem;
  border-top: 1px solid var(--line); scroll-margin-top: 0.5rem; }
.row:target { outline: 2px solid var(--link); outline-offset: 4px; }
.tags { font-size: 12px; padding-top: 0.6rem; } .tags a { display: block; }
.prose p { margin: 0.5rem 0; } .part p { font-weight: 600; }
pre { margin: 0; padding: 0.6rem; overflow-x: auto; font: 12px/1.5 ui-monospace, monospace; }
.prose pre { padding: 0.3rem 0; font-size: 11.5px; } code { font-size: 0.9em; }
.code { background: var(--code); }
.code a { color: inherit; border-bottom: 1px dotted var(--link); }
.head .prose, .head .code { grid-column: 2 / 4; }
figure { margin: 1rem 0; } figure img { max-width: 100%; background: #fff; }
figcaption { color: var(--dim); font-size: 13px; }
@media (max-width: 1000px) { .row { display: block; padding-bottom: 0.5rem; }
  .tags a { display: inline; } }
"""
DARK = """
:root { --ink: #dde1e6; --dim: #99a; --paper: #16181c; --code: #1f2227; --line: #33373e;
  --link: #7ab7ff; }
"""


def colours(name):
    return "\n".join(HtmlFormatter(style=name).get_token_style_defs(".code"))


def anchor(tag):
    return "paper-" + re.sub(r"\W+", "-", tag).strip("-")


def order(tag):
    """A key that sorts tags in the paper's order: Eq. 9 before Eq. 10."""
    kinds = ["Algorithm", "Eq.", "Sec.", "Table", "Fig.", "App."]
    return kinds.index(tag.split()[0]), [f"{part:>3}" for part in re.findall(r"\w+", tag)[1:]]


def figure(path, caption):
    kind = {"svg": "svg+xml", "png": "png"}[path.rpartition(".")[2]]
    content = base64.b64encode((HOME / path).read_bytes()).decode()
    return (f'<figure><img alt="{escape(caption)}" src="data:image/{kind};base64,{content}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>")


def links_to(names):
    """A series of links, in HTML.   names: {what to show: address in the page}"""
    return " ".join(f'<a href="#{address}">{shown}</a>' for shown, address in names.items())


def script_html(script, sources, places):
    """The rows of a script in HTML; those that name a tag are added to places.

    places: {tag: {what to show: address}}
    """
    defined = {name: {d for d, _ in definitions(ast.parse(text))} for name, text in sources.items()}
    source, out = sources[script], [f'<h2 id="{script}">{script}.py</h2>']
    lines, html = source.splitlines(), code_html(source, links(script, source, defined))
    for i, row in enumerate(rows(source)):
        prose = [line for line in row.prose if not re.fullmatch(r"\s*-{20,}", line)]
        kind = "head" if i == 0 else "part" if len(prose) < len(row.prose) else ""
        address = f"{script}.{row.name}" if row.name else f"{script}-{i}"
        if row.name or prose[0][:1] != " ":  # otherwise it is within the last definition
            shown = address if row.name else script
        named = sorted(tags("\n".join([*prose, *(lines[k - 1] for k in row.code)])), key=order)
        for tag in named:
            places.setdefault(tag, {}).setdefault(shown, address)
        code = "\n".join(html[k - 1] for k in row.code).strip("\n")
        out.append(f"""<div class="row {kind}" id="{address}">
<div class="tags">{links_to({tag: anchor(tag) for tag in named})}</div>
<div class="prose">{prose_html(prose, bool(row.name)) if prose else ""}</div>
{f'<pre class="code">{code}</pre>' if code.strip() else "<div></div>"}</div>""")
        if i == 0 and script in FIGURES:
            out.append(figure(*FIGURES[script]))
    return "\n".join(out)


def page():
    """The whole page, as HTML."""
    sources, places = {script: (HOME / f"{script}.py").read_text("utf-8") for script in SCRIPTS}, {}
    body = "\n".join(script_html(script, sources, places) for script in SCRIPTS)
    index = "\n".join(f'<div class="row head" id="{anchor(tag)}"><div class="tags">{tag}</div>'
                      f'<div class="prose"><p>{links_to(places[tag])}</p></div></div>'
                      for tag in sorted(places, key=order))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>SimSiam, annotated</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><style>{STYLE}{colours("friendly")}
@media (prefers-color-scheme: dark) {{ {DARK}{colours("github-dark")} }}</style></head>
<body><h1>SimSiam, annotated</h1>
<p>The scripts of this repository beside the paper, <a href="https://arxiv.org/abs/2011.10566">arXiv
2011.10566</a>. A name in the code leads to its definition.</p>
<nav>{links_to({**{f"{name}.py": name for name in SCRIPTS}, "by section": "paper"})}</nav>
{body}
<h2 id="paper">From the paper to the code</h2>
{index}
</body></html>
"""


@plain_errors
def main(argv=None):
    p = argparse.ArgumentParser(description="Write the scripts as one HTML page.")
    p.add_argument("out", nargs="?", type=ending(".html"), default="annotated.html",
                   metavar="OUT.html", help="the page (default: annotated.html)")
    out = p.parse_args(argv).out
    atomic_write(out, page().encode())
    print(out)


if __name__ == "__main__":
    main()
