"""The sign-on as a sequence diagram, drawn from the exchanges of an attempt: nothing is in it that was not sent or answered.

Where a run of the other kind was made on this machine, leak and repair stand beside each other, equal steps at the same height.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from runbook_lib.evidence import runs
from runbook_lib.evidence.comparison import KINDS, counterpart, finding
from runbook_lib.evidence.pictures.figure import Figure, Panel
from runbook_lib.evidence.pictures.sequence import Diagram, Gap, Lane, Part, Row, Step, heights_of
from runbook_lib.webclient.response import PASSWORD, SAML_FIELDS, Exchange

ATTEMPT = "click-through-store-to-publisher"
SIGN_ON_COOKIE = "commonAuthId"  # by it the identity provider knows a browser again (facts 6.1)
REQUEST, ASSERTION = SAML_FIELDS
# Who answers below a path (facts 5.1, 6.1). Whatever else a host serves is the product's.
APPLICATIONS = {"store": "Store", "publisher": "Publisher", "social": "Comments"}
PROVIDER = ("samlsso", "commonauth", "sso", "authenticationendpoint")
BROWSER, NGINX = "browser", "nginx"
TITLES = {"leak": "THE LEAK", "held": "CLOSED"}
Block = tuple[Row, ...]  # a part's title, or an exchange's request and answer
ORDER = (BROWSER, NGINX, "store", "social", "provider", "publisher", "product")


@dataclass(frozen=True)
class WalkRecord:
    """One attempt's exchanges in a run. `name`: the deployment; `kind`: leak, separated or undecided, as the run's proof found."""

    name: str
    kind: str
    title: str
    exchanges: tuple[Exchange, ...]


@dataclass(frozen=True)
class Decision:
    """The exchange that decides whether the second application opened unasked: its place, leak or held, and the exchange that caused it, if it was made."""

    place: int
    mark: str
    cause: int | None = None


def walk_of(folder: Path, attempt: str = ATTEMPT) -> WalkRecord | None:
    """Return an attempt's newest exchanges in a run, or None when the run did not make it or kept none."""
    entries = runs.read(folder)
    made = next((entry for entry in reversed(entries) if entry["verb"] == "attempt" and entry["key"] == f"sso.{attempt}"), None)
    if not made or not made.get("requests"):
        return None
    name = next((str(entry.get("deployment")) for entry in entries if entry["verb"] == "begin"), folder.parent.name)
    met = tuple(Exchange.of(fields) for fields in made["requests"])
    return WalkRecord(name, runs.statement_of(entries).kind, made["title"], met)


def sign_on(folder: Path, runs_folder: Path | None = None, attempt: str = ATTEMPT) -> Figure | None:
    """Return the figure of a run's newest proof, or None when it made no such attempt."""
    mine = walk_of(folder, attempt)
    return draw_beside(mine, folder, attempt, runs_folder) if mine else None


def draw_beside(mine: WalkRecord, folder: Path, attempt: str = ATTEMPT, runs_folder: Path | None = None) -> Figure:
    """Return the figure of a walk of the run in `folder`, with that of the newest run of the other kind beside it, the leak first.

    It stands alone where this version cannot read the other's exchanges.
    """
    found = finding(folder)
    other = counterpart(found, runs_folder, pictured=False) if found and found.kind == mine.kind in KINDS else None
    with suppress(*runs.UNREADABLE):
        if other and (theirs := walk_of(other.folder, attempt)):
            return draw(sorted((mine, theirs), key=lambda walk: KINDS.index(walk.kind)))
    return draw([mine])


def draw(walks: Sequence[WalkRecord]) -> Figure:
    """Return the figure of one walk, or of two beside each other."""
    diagrams = [Diagram(f"{walk.name}: {walk.title}", lanes_of(walk.exchanges), rows) for walk, rows in zip(walks, _aligned(walks), strict=True)]
    heights = heights_of(diagrams)
    panels = [Panel(diagram.title, diagram.draw(heights), diagram.steps) for diagram in diagrams]
    return Figure("sign-on", "The sign-on, step by step", [sentence for walk in walks for sentence in _caption(walk)], panels)


def actor_of(one: Exchange) -> str:
    """Return who answers a request, by its path: an application, `provider HOST` or `product`; `nginx` where Nginx answered itself."""
    if one.by_nginx:
        return NGINX
    return _application(one) or (f"provider {urlsplit(one.url).hostname}" if _folder(one) in PROVIDER else "product")


def _folder(one: Exchange) -> str:
    return _short(one.url).strip("/").partition("/")[0]


def _application(one: Exchange) -> str:
    """Return which application a request is for, by its path; "" for none of them."""
    return _folder(one) if _folder(one) in APPLICATIONS else ""


def lanes_of(exchanges: Sequence[Exchange]) -> list[Lane]:
    """Return a lane for the browser, for Nginx, and for each who answered; an identity provider for each host that has one."""
    met = dict.fromkeys([BROWSER, NGINX, *map(actor_of, exchanges)])
    titles = {BROWSER: "Browser", NGINX: "Nginx", "product": "Product", **APPLICATIONS}
    found = [Lane(name, titles.get(name, "Identity provider"), name.partition(" ")[2]) for name in met]
    return sorted(found, key=lambda lane: ORDER.index(lane.id.split()[0]))


def decision_of(exchanges: Sequence[Exchange]) -> Decision | None:
    """Return what decides, after the browser turned to the second application: an assertion without a password, a form for one, or Nginx's refusal.

    None when there was no second application, or when none of the three was seen.
    """
    second = _second(exchanges)
    for place in range(second, len(exchanges)):
        one = exchanges[place]
        asked = any(PASSWORD in before.posted for before in exchanges[second : place + 1])
        if ASSERTION in one.offers and not asked:
            return Decision(place, "leak", _cause(exchanges, second, place))
        if PASSWORD in one.offers or one.by_nginx:
            return Decision(place, "held", _cause(exchanges, second, place))
    return None


def _second(exchanges: Sequence[Exchange]) -> int:
    """Return the place at which the browser turns to another application than before; their number when it never does."""
    applications = list(map(_application, exchanges))
    first = next(filter(None, applications), "")
    return next((place for place, name in enumerate(applications) if name not in ("", first)), len(exchanges))


def _cause(exchanges: Sequence[Exchange], begin: int, end: int) -> int | None:
    """Return the place of the sign-in request that the identity provider got in between."""
    return next((place for place in range(begin, end + 1) if REQUEST in exchanges[place].posted), None)


def _aligned(walks: Sequence[WalkRecord]) -> list[list[Row]]:
    """Return the rows of each walk, of equal number: equal steps at the same place, gaps where only the other has one."""
    blocks = [_blocks(walk.exchanges) for walk in walks]
    if len(blocks) == 1:
        return [[row for block in blocks[0] for row in block]]
    keys = [[_key(block) for block in of_one] for of_one in blocks]
    sides: tuple[list[Row], list[Row]] = ([], [])
    for _, i1, i2, j1, j2 in SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_opcodes():
        for one, other in zip_longest(blocks[0][i1:i2], blocks[1][j1:j2], fillvalue=()):
            for mine, theirs in zip_longest(one, other, fillvalue=Gap()):
                sides[0].append(mine)
                sides[1].append(theirs)
    return list(sides)


def _key(block: Block) -> str:
    """Return what makes two blocks the same step: the words of a part; who was asked for which path by which method, whatever the host."""
    head = block[0]
    return head.text if isinstance(head, Part) else f"{head.target.split()[0]} {head.key}" if isinstance(head, Step) else ""


def _blocks(exchanges: Sequence[Exchange]) -> list[Block]:
    """Return the rows of a walk by blocks, in their order."""
    second, decided = _second(exchanges), decision_of(exchanges)
    began = exchanges[0].at if exchanges else ""
    blocks: list[Block] = []
    for place, one in enumerate(exchanges):
        if place in (0, second):
            name = APPLICATIONS.get(_application(one), "cluster")
            blocks.append((Part(f"The browser opens the {name}" if place == 0 else f"Then it opens the {name}"),))
        actor = actor_of(one)
        past = [NGINX] if actor != NGINX else []
        caused = decided is not None and decided.cause == place
        asking = Step(BROWSER, actor, _asked(one), str(place + 1), past=past, key=f"{one.method} {_short(one.url)}", strong=caused)
        mark, verdict = (decided.mark, f"{TITLES[decided.mark]}: {_outcome(one, decided.mark)}") if decided and decided.place == place else ("", "")
        answering = Step(actor, BROWSER, _answered(one), time=_since(began, one), past=past, answer=True, mark=mark, verdict=verdict)
        blocks.append((asking, answering))
    return blocks


def _asked(one: Exchange) -> str:
    """Return a request in words: method and path, what its form carries, and whether the cookie of the sign-on goes along where that matters."""
    carried = {REQUEST: "the sign-in request (SAMLRequest)", ASSERTION: "the assertion (SAMLResponse)", PASSWORD: "name and password"}
    told = [f"{one.method} {_short(one.url)}", *(f"with {words}" for name, words in carried.items() if name in one.posted)]
    if SIGN_ON_COOKIE in one.sent:
        told.append(f"cookie {SIGN_ON_COOKIE}")
    elif REQUEST in one.posted:
        told.append(f"no {SIGN_ON_COOKIE}")
    return ", ".join(told)


def _answered(one: Exchange) -> str:
    """Return an answer in words: its status, where it leads or what its page holds, and which cookies it sets."""
    holds = {REQUEST: "page that posts a sign-in request", ASSERTION: "page that posts an assertion", PASSWORD: "form that asks for a password"}
    told = [str(one.status) if one.status else one.note]
    told += [words for name, words in holds.items() if name in one.offers]
    if one.location:
        there, here = urlsplit(urljoin(one.url, one.location)), urlsplit(one.url)
        told.append(f"to {'' if there.hostname == here.hostname else there.hostname or ''}{_short(there.geturl())}")
    if one.by_nginx:
        told.append("refused by Nginx")
    if one.set:
        told.append(f"sets {', '.join(dict.fromkeys(one.set))}")
    return ", ".join(told)


def _short(url: str) -> str:
    """Return the path of a URL, without a session in it."""
    return urlsplit(url).path.partition(";")[0]


def _since(began: str, one: Exchange) -> str:
    """Return the seconds from the first request to this answer; "" where the record has no times."""
    if not (began and one.at):
        return ""
    return f"{(datetime.fromisoformat(one.at) - datetime.fromisoformat(began)).total_seconds() + one.seconds:.2f} s"


def _outcome(one: Exchange, mark: str) -> str:
    if mark == "leak":
        return "an assertion is handed out, and nobody was asked for a password"
    return "Nginx refuses" if one.by_nginx else "a password is asked for"


def _caption(walk: WalkRecord) -> list[str]:
    """Return what to look at in this walk's picture, by the numbers of its steps."""
    met, decided = walk.exchanges, decision_of(walk.exchanges)
    if decided is None:
        return [f"{walk.name}: {len(met)} requests and their answers."]
    told = f"{walk.name}: look at step {decided.place + 1}: {_outcome(met[decided.place], decided.mark)}."
    given = next((place for place, one in enumerate(met) if SIGN_ON_COOKIE in one.set), None)
    if decided.cause is None or given is None:
        return [told]
    asked, gave = urlsplit(met[decided.cause].url).hostname, urlsplit(met[given].url).hostname
    if SIGN_ON_COOKIE in met[decided.cause].sent:
        return [
            f"{told} Why: step {decided.cause + 1} brings the cookie {SIGN_ON_COOKIE} along, which step {given + 1} set: both applications sign in at {asked}."
        ]
    return [
        f"{told} Why: step {decided.cause + 1} goes to {asked} and brings no {SIGN_ON_COOKIE} along. Step {given + 1} set it on {gave}, "
        "and a browser sends a cookie to its own host only."
    ]
