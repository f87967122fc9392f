"""Every citation of the facts, the golden run, the golden table and the decisions leads to a section that exists.

Citations are written "facts 10.2", "golden run 7" (or "golden-run 7"), "golden table e" and "decision 9", each with further
numbers where needed ("facts 1.11, 2.4, golden run 2, 7"). Their documents lie in docs/; a reader must find what is cited.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import DATA, ROOT

DOCS = ROOT / "docs"
KINDS = (".py", ".java", ".yaml", ".j2", ".ipynb", ".md")
NUMBER = r"\d+(?:\.\d+)?"
# Comments wrap: a line's end with the next line's comment mark (in notebooks, with the string's quotes) counts as a space.
WRAP = re.compile(r"(?:\\n\",)?(?<!\n)\n(?!\n)[ \t]*(?:#|//|\*|>|\")*")
MORE = rf"(?:(?:,| and| to) +{NUMBER}(?!\w))*"
CITED = {
    "facts": re.compile(rf"\b[Ff]acts +({NUMBER}{MORE})"),
    "golden run": re.compile(rf"\b[Gg]olden[ -]+run +({NUMBER}{MORE})"),
    "golden table": re.compile(r"\b[Gg]olden +table(?:'s)?,? +(?:columns? +)?([a-z](?:(?:,| and) +[a-z])*)(?![\w-])"),
    "decision": re.compile(rf"\b[Dd]ecisions? +({NUMBER}{MORE})"),
}


def sections(document: Path) -> set[str]:
    """Numbers that can be cited of a document: its headings ("10", "10.2"), and "8.17" for item 17 of a list right below heading 8."""
    found: set[str] = set()
    here = ""
    for line in document.read_text(encoding="utf-8").splitlines():
        if heading := re.match(rf"#+ ({NUMBER})\.? ", line):
            here = heading[1]
            found.add(here)
        elif (item := re.match(r"(\d+)\. ", line)) and here and "." not in here:
            found.add(f"{here}.{item[1]}")
    return found


KNOWN = {
    "facts": sections(DOCS / "wso2-facts.md"),
    "golden run": sections(DOCS / "golden-run.md"),
    "golden table": {key for row in yaml.safe_load((DATA / "golden-table.yaml").read_text())["rows"] for key in row if len(key) == 1},
    "decision": {str(int(path.name[:4])) for path in (DOCS / "decisions").glob("*.md")},
}


def citations(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, document, number or letter) of each citation in a text."""
    unwrapped = WRAP.sub(lambda wrap: " " * len(wrap[0]), text)  # as long as before: places stay the same
    for document, pattern in CITED.items():
        for found in pattern.finditer(unwrapped):
            cited = re.findall(r"\b[a-z]\b" if document == "golden table" else NUMBER, found[1])
            for one in cited:
                yield text.count("\n", 0, found.start()) + 1, document, one


def files() -> list[Path]:
    names = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name.endswith(KINDS) and (ROOT / name).is_file() and ROOT / name != Path(__file__)]


def test_every_citation_leads_to_a_section() -> None:
    cited = [(path, *found) for path in files() for found in citations(path.read_text(encoding="utf-8"))]
    assert len(cited) > 150, "hardly anything was found: the patterns are wrong"
    assert {document for _, _, document, _ in cited} == set(CITED)
    lost = [f"{path.relative_to(ROOT)}:{line}: {document} {one}" for path, line, document, one in cited if one not in KNOWN[document]]
    assert not lost, "cited, but not there:\n" + "\n".join(lost)


# Written as templates so that this file holds no citation of its own.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(F 1.11, 2.4, G 2, 7)", ["facts 1.11", "facts 2.4", "golden run 2", "golden run 7"]),
        ("G 1 and F 2.3.", ["facts 2.3", "golden run 1"]),
        ("F 10 and 12 and more", ["facts 10", "facts 12"]),
        ("F 5.1, item 5", ["facts 5.1"]),
        ("F 1.2, 3; D 11", ["facts 1.2", "facts 3", "decision 11"]),
        ("F 1.1, 3rd", ["facts 1.1"]),
        ('see F\\n",\n    "10.2', ["facts 10.2"]),
        ("wait 2 s (golden\n# run 7)", ["golden run 7"]),
        ("(design,\n# D 11): no cache", ["decision 11"]),
        ("T, b and d)", ["golden table b", "golden table d"]),
        ("T's column a", ["golden table a"]),
        ("T a whole", ["golden table a"]),
        ("no T.yaml, these F are", []),
    ],
)
def test_citations_are_found_as_people_write_them(text: str, expected: list[str]) -> None:
    for short, long in (("F\\n", "facts\\n"), ("F ", "facts "), ("G ", "golden-run "), ("D ", "decision "), ("T", "golden table")):
        text = text.replace(short, long)
    assert [f"{document} {one}" for _, document, one in citations(text)] == expected


def test_every_record_of_a_decision_is_linked_and_complete() -> None:
    design = (DOCS / "design.md").read_text(encoding="utf-8")
    for path in sorted((DOCS / "decisions").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        assert f"(decisions/{path.name})" in design, f"docs/design.md does not link {path.name}"
        assert text.startswith(f"# {int(path.name[:4])}. ")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")) + sorted(ROOT.glob("*.md")), ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"\w+:", link)]
    assert [target for target in targets if target and not (path.parent / target).exists()] == []
