"""docs/index.md is true of the code, both ways.    pytest tests/test_index.py

A tag is "Eq. 3", "Sec. 4.4", "Table 1 (c)" or the like. It belongs to the definition in whose lines
it stands, docstring and comments included.
"""

import ast
import pathlib
import re

import pytest

from docs.annotate import tags

HOME = pathlib.Path(__file__).parent.parent
INDEX = (HOME / "docs/index.md").read_text()
SCRIPTS = ["simsiam.py", "resnet.py", "augment.py", "optim.py", "options.py", "train.py",
           "lineval.py"]
EXPERIMENTS = sorted(str(path.relative_to(HOME)) for path in HOME.glob("experiments/*.py")
                     if re.match(r"(fig|tab\d|sec|app)", path.name))
LINK = re.compile(r"\[(`?)([^]`]+)`?\]\(\.\./([^)#]+)\)")


def places(file):
    """{name: its lines} of a file's definitions; those of no definition under ""."""
    lines = (HOME / file).read_text().splitlines()
    owner = [""] * len(lines)

    def visit(body, prefix):
        for node in body:
            if isinstance(node, ast.Assign) and file in SCRIPTS and not prefix:
                name = ast.unparse(node.targets[0])
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                name = prefix + node.name
            else:
                continue
            name = name.removesuffix(".__init__")  # a class and what makes it are one place
            start = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            owner[start - 1 : node.end_lineno] = [name] * (node.end_lineno - start + 1)
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{name}.")

    visit(ast.parse("\n".join(lines)).body, "")
    found = {}
    for name, line in zip(owner, lines):
        found.setdefault(name, []).append(line)
    return {name: "\n".join(text) for name, text in found.items()}


TAGS = {file: {name: tags(text) for name, text in places(file).items()}
        for file in SCRIPTS + EXPERIMENTS}


def rows(part):
    """The rows of a part's tables, as (first cell, the rest)."""
    text = re.search(rf"^## {part}\n(.*?)(?=^## |\Z)", INDEX, re.M | re.S)[1]
    cells = re.findall(r"^\| *(.*?) *\|(.*)\|$", text, re.M)
    return [(first, rest) for first, rest in cells if first and not first.startswith("---")]


def links(text):
    """{(file, name)} of the links of a text; a link to a whole file has the name ""."""
    return {(file, name if tick else "") for tick, name, file in LINK.findall(text)}


FORWARD = {}  # tag: {(file, name)}
for part in ("Equations", "Sections", "Tables, figures and appendices"):
    for first, rest in rows(part):
        for tag in tags(first):
            FORWARD.setdefault(tag, set()).update(links(rest))
FORWARD.setdefault("Algorithm 1", set()).update(
    place for _, rest in rows("Algorithm 1") for place in links(rest))
BACK = {}  # (file, name): its tags
for file in SCRIPTS:
    for first, rest in rows(re.escape(file)):
        for name in re.findall(r"`([^`]+)`", first):
            assert (file, name) not in BACK, name
            BACK[file, name] = tags(rest)


def test_every_link_leads_to_a_file_and_every_name_is_defined_there():
    for tick, name, file in LINK.findall(INDEX):
        assert (HOME / file).exists(), file
        assert not tick or name in places(file), (file, name)
    assert re.findall(r"\]\((?!https?:|\.\./)(.*?)\)", INDEX) == ["method.svg"]  # beside it


def test_a_tag_stands_at_every_place_to_which_its_row_leads():
    for tag, found in FORWARD.items():
        for file, name in found:
            if file in TAGS and tag != "Algorithm 1":  # whose lines have no tags of their own
                assert tag in TAGS[file][name], (tag, file, name)


def test_the_row_of_a_tag_leads_to_every_place_where_it_stands():
    for file, own in TAGS.items():
        for name, found in own.items():
            for tag in found:
                led_to = FORWARD.get(tag, set())
                # For the head of a file any link into the file will do.
                assert (file, name) in led_to or not name and file in {f for f, _ in led_to}, (
                    tag, file, name)


@pytest.mark.parametrize("file", sorted(str(path.relative_to(HOME)) for path in (
    *HOME.glob("utils/*.py"), *HOME.glob("experiments/*.py"))))
def test_the_parts_of_the_paper_that_a_files_first_line_names_lead_to_it(file):
    first = (ast.get_docstring(ast.parse((HOME / file).read_text())) or "").partition("\n")[0]
    for tag in tags(first):
        assert file in {f for f, _ in FORWARD[tag]}, tag


@pytest.mark.parametrize("file", SCRIPTS)
def test_the_way_back_lists_every_public_definition_of_a_script_with_its_tags(file):
    tree = ast.parse((HOME / file).read_text())
    public = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))
              and n.name != "main"}
    listed = {name for of, name in BACK if of == file}
    assert public <= listed <= set(TAGS[file])
    for name in listed:
        assert BACK[file, name] == TAGS[file][name], (file, name)
    for name in TAGS[file].keys() - listed - {"", "main"}:
        assert not TAGS[file][name], (file, name)


ALGORITHM_1 = ["for x in loader", "x1, x2 = aug(x), aug(x)", "z1, z2 = f(x1), f(x2)",
               "p1, p2 = h(z1), h(z2)", "L = D(p1, z2)/2 + D(p2, z1)/2", "L.backward()",
               "update(f, h)", "D: z is detached",
               "D: p and z are normalised, then multiplied and summed",
               "D: minus the mean over the batch"]


def test_every_line_equation_section_table_figure_and_appendix_of_the_paper_has_a_row():
    wanted = [f"Eq. {i}" for i in range(1, 12)]
    wanted += [f"Sec. {i}" for i in (1, 2, 3, 4, 5, 6)]
    wanted += [f"Sec. 4.{i}" for i in range(1, 8)] + [f"Sec. 5.{i}" for i in (1, 2, 3)]
    wanted += ["Sec. 6.1", "Sec. 6.2", *(f"Table {i}" for i in (1, 2, 3, 4, 5, "C.1"))]
    wanted += [f"Table {t}" for t in ("1 (a)", "1 (b)", "1 (c)", "3 (a)", "3 (d)")]
    wanted += [*(f"Fig. {i}" for i in (1, 2, 3, "D.1")), *(f"App. {a}" for a in "ABCD")]
    assert set(wanted) <= set(FORWARD)
    assert [line for line, _ in rows("Algorithm 1")] == [
        "line", *ALGORITHM_1, "all lines, for one small batch"]
