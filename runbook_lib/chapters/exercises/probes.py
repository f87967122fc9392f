"""What a check asks of the world: probes, which hold or do not, and values, with which an answer is compared.

In a table each is its name and its arguments: `{plan: nginx}`, `{request: {host: store, path: /publisher/, status: 404}}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from runbook_lib.chapters.exercises.actions import ACCOUNT, as_root, fill, words_for
from runbook_lib.chapters.exercises.table import Step, verb_of
from runbook_lib.checks.sso.environment import scene_of
from runbook_lib.checks.sso.proof import Outcome, prove
from runbook_lib.webclient.client import Client
from runbook_lib.webclient.cookies import Cookie
from runbook_lib.webclient.response import Answer

ACCESS_LOG = "/var/log/nginx/access.log"
LANDING = {"store": "/store/pages/top-assets", "publisher": "/publisher/pages/gc-landing"}
# The ways into an application, as Nginx's access log shows each (facts 10.2, 12.1): on every host, for a pattern may serve the application on several, and with
# the path parameters that Nginx keeps and Tomcat drops (facts 5.3). Where it is, {;} stands for one. The log has no query and no cookie.
WAYS = {
    "sign-on": r'"POST <{app}>/{app}/acs" 302 ',
    "api": r'"POST [^/" ]+/{app}{;}/(apis{;}/authenticate|pages{;}/basic-authenticator){;}/?" 200 ',
    "script": r'"[A-Z]+ [^/" ]+/{app}{;}/[^" ]+\.jag{;}" 200 ',
}
WAY_WORDS = {"sign-on": "single sign-on", "api": "the API that signs in", "script": "a script under its own path"}
SESSION = re.compile(r"JSESSIONID=([\w.+-]+)", re.IGNORECASE)


@dataclass
class Probes:
    """Asks a deployment. `answer`: what the learner gave, "" when nothing; `since`: when the exercise was started, in UTC ISO 8601."""

    deployment: Any  # a chapters.deployment.Deployment
    answer: str = ""
    since: str = ""
    _tried: dict[str, Outcome] = field(default_factory=dict)  # attempts that this check has made, by id

    def wrong(self, probes: Iterable[Step]) -> list[str]:
        """Return for each probe that does not hold what is still wrong, in words that do not tell how to put it right: its `else`, where it has one."""
        found, probes = [], list(probes)
        together = [id for probe in probes if "attempts" in probe for ids in probe["attempts"].values() for id in ids]
        for probe in probes:
            if "attempts" in probe:
                self._try(together)
            name, arguments = verb_of(probe), probe[verb_of(probe)]
            seen = _called(self, f"is_{name}", arguments)
            if seen:
                found.append(fill(probe["else"], self._words()) if "else" in probe else seen)
        return found

    def value(self, step: Step) -> frozenset[str]:
        """Return what is found, as words in small letters."""
        found = _called(self, f"value_{verb_of(step)}", step[verb_of(step)])
        return frozenset(str(word).lower() for word in found)

    # probes: each returns "" when it holds, otherwise what it saw
    def is_plan(self, *chapters: str) -> str:
        """The plans of these chapters are empty."""
        due = [name for name in chapters if getattr(self.deployment, name).plan()]
        return f"the plan is not empty: {', '.join(due)}" if due else ""

    def is_checks(self, chapter: str, passing: Iterable[str] = (), failing: Iterable[str] = ()) -> str:
        """Of the chapter's checks those in `passing` pass and those in `failing` do not (patterns of ids; each pattern matches at least one)."""
        table = getattr(self.deployment, chapter).checks()
        wrong = []
        for patterns, wanted in ((passing, True), (failing, False)):
            for pattern in patterns:
                rows = [row for row in table if fnmatchcase(row.id, fill(pattern, self._words()))]
                wrong += [f"{row.title} ({row.id}): {row.status}" for row in rows if row.ok != wanted] or ([] if rows else [f"no check is called {pattern}"])
        return "; ".join(wrong)

    def is_request(self, host: str, path: str | list[str], **wanted: Any) -> str:
        """A request through Nginx is answered so: `status` (a number or several), and regular expressions `location`, `body` and `header` ("name: value").

        `path`: one, or several that are all answered so; `method`, `form` (fields), `sni` and `plain` (over HTTP) say what is asked.
        """
        options = {key: wanted.pop(key) for key in ("method", "form", "sni", "plain") if key in wanted}
        answers = [self._asked(host, each, **options) for each in ([path] if isinstance(path, str) else path)]
        seen = [_differs(answer, wanted, self._words()) if isinstance(answer, Answer) else answer for answer in answers]
        return "; ".join(filter(None, seen))

    def is_attempts(self, held: Iterable[str] = (), leak: Iterable[str] = ()) -> str:
        """These attempts of the proof are refused (`held`), or succeed (`leak`). They are made by users of their own."""
        wanted = {**dict.fromkeys(held, "held"), **dict.fromkeys(leak, "leak")}
        words = {"held": "refused", "leak": "it succeeds", "undecided": "not decided"}
        return "; ".join(f"{one.attempt.title}: {words[one.state]}" for one in self._try(wanted) if one.state != wanted[one.attempt.id])

    def is_script(self, node: str, run: str, prints: str) -> str:
        """What root's bash on a node prints has the regular expression `prints` in it."""
        seen = as_root(self.deployment, node, fill(run, self._words(node)))
        return "" if re.search(fill(prints, self._words(node)), seen, re.MULTILINE) else f"{node} shows: {seen.strip()[:300] or 'nothing'}"

    def is_stands_in(self, app: str, ways: list[str]) -> str:
        """The answer is a session of one of the exercise's accounts in `app`, and the last way into it since the start was one of `ways`."""
        given = SESSION.search(self.answer)
        key = given[1] if given else self.answer.strip()
        user = self._whose(app, key)
        if not user:
            return f"no node of the {app.title()} knows this session, or it has nobody signed in"
        if not ACCOUNT.fullmatch(user):
            return f"this session is {user}'s: it has to be your account's"
        used, unasked = self._ways(app)
        if used not in ways:
            return f"you are in. The last way in was {WAY_WORDS[used] if used else 'none that the log knows'}, and this exercise is about another"
        if used == "sign-on" and not unasked:
            return (
                "you are in, but the last thing before it was a password, and no sign-in at the other application: the point is to get in without being asked."
                " To begin anew, sign in at the other application in a new browser, and go on in the same one"
            )
        return ""

    # values
    def value_failing(self, chapter: str, among: Iterable[str] = ("*",)) -> list[str]:
        """The ids of the chapter's checks that do not pass, of those that `among` matches."""
        patterns = [fill(each, self._words()) for each in among]
        return [row.id for row in getattr(self.deployment, chapter).checks().failed() if any(fnmatchcase(row.id, each) for each in patterns)]

    def value_pending(self, chapter: str) -> list[str]:
        """The number of changes in the chapter's plan."""
        return [str(len(getattr(self.deployment, chapter).plan().pending))]

    def value_status(self, host: str, path: str, **options: Any) -> list[str]:
        """The status of a request through Nginx; `closed` when there is no answer."""
        answer = self._asked(host, path, **options)
        return [str(answer.status) if isinstance(answer, Answer) else "closed"]

    def value_leaks(self, *attempts: str) -> list[str]:
        """Those of these attempts of the proof that succeed; `none` when all are refused."""
        return [one.attempt.id for one in self._try(attempts) if one.state == "leak"] or ["none"]

    def value_prints(self, node: str, run: str) -> list[str]:
        """The words that root's bash on a node prints."""
        return as_root(self.deployment, node, fill(run, self._words(node))).split()

    # helpers
    def _try(self, attempts: Iterable[str]) -> list[Outcome]:
        """Make these attempts of the proof, those of one check together and each once, and return their outcomes."""
        wanted = list(dict.fromkeys(attempts))
        if new := [id for id in wanted if id not in self._tried]:
            self._tried |= {one.attempt.id: one for one in prove(scene_of(self.deployment), agreed=True, only=new).outcomes}
        return [self._tried[id] for id in wanted if id in self._tried]

    def _words(self, node: str = "") -> dict[str, str]:
        words = words_for(self.deployment.topology)
        return {**words, "node": words.get(node, "")}

    def _asked(self, host: str, path: str, method: str = "GET", plain: bool = False, sni: str = "", **given: Any) -> Answer | str:
        """Return the answer of a public host to a visitor without cookies, or why there is none."""
        spec, topology = self.deployment.spec, self.deployment.topology
        name = spec.hosts.get(host, host)
        places = self.deployment.public_addresses()
        lb = topology.lb_for(host) if host in spec.hosts else topology.lbs[0]
        visitor = Client({name: places[lb.name]}, self.deployment.vault.get("ca.pem"))
        words = self._words()
        try:
            return visitor.request(method, f"{'http' if plain else 'https'}://{name}{fill(path, words)}", sni=fill(sni, words) or None, **given)
        except OSError as error:
            return f"no answer: {type(error).__name__}"

    def _whose(self, app: str, key: str) -> str:
        """Return the user of a session: each node is asked by itself, past Nginx, because a session may be known to one alone."""
        scene = scene_of(self.deployment)
        host = scene.hosts[app]
        for node in scene.nodes[app]:
            visitor = scene.visitor_of(node)
            visitor.jar.keep(Cookie("JSESSIONID", key, host, path=f"/{app}/"))
            answer = visitor.get(f"https://{host}{LANDING[app]}")
            if answer.status == 200 and (user := ACCOUNT.search(answer.text) or re.search(r"\badmin\b", answer.text)):
                return user[0]
        return ""

    def _ways(self, app: str) -> tuple[str, bool]:
        """Return what the access logs say since the start: the last way into `app`, and whether a sign-in at another application was the last thing
        before its last single sign-on, with no password typed in between."""
        start = datetime.fromisoformat(self.since) if self.since else datetime.fromtimestamp(0, UTC)
        logs = [as_root(self.deployment, lb.name, f"cat {ACCESS_LOG}").splitlines() for lb in self.deployment.topology.lbs]
        lines = sorted((line for log in logs for line in log if _moment(line) >= start), key=_moment)
        words = self._words()
        patterns = {way: re.compile(fill(pattern.replace("{app}", app).replace("{;}", '(;[^/" ]*)?'), words)) for way, pattern in WAYS.items()}
        used = [(way, _moment(line)) for line in lines for way, pattern in patterns.items() if pattern.search(line)]
        entered = max((moment for way, moment in used if way == "sign-on"), default=start)
        before = [line for line in lines if _moment(line) <= entered and re.search(r'"POST \S+(/commonauth"|/acs" 302 )', line) and f"/{app}/acs" not in line]
        return (used[-1][0] if used else ""), bool(before) and "/acs" in before[-1]


def _moment(line: str) -> datetime:
    """Return the time of a line of the access log; the beginning of time for a line without one."""
    try:
        return datetime.fromisoformat(line.split(" ", 2)[1])
    except (IndexError, ValueError):
        return datetime.fromtimestamp(0, UTC)


def _called(probes: Probes, name: str, arguments: Any) -> Any:
    """Call a probe or value with what the table gives it: named arguments, a list, or one word."""
    method = getattr(probes, name.replace("-", "_"))
    if isinstance(arguments, Mapping):
        return method(**arguments)
    return method(*arguments) if isinstance(arguments, list | tuple) else method(arguments)


def _differs(answer: Answer, wanted: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """Return what of an answer is not as wanted, "" when all is."""
    headers = "\n".join(f"{name}: {value}" for name, value in answer.headers)
    seen = {"location": answer.location, "body": answer.text, "header": headers}
    if "status" in wanted:
        allowed = wanted["status"] if isinstance(wanted["status"], list) else [wanted["status"]]
        if answer.status not in allowed:
            return f"{answer.url} answers {answer.status}"
    for part, text in seen.items():
        if part in wanted and not re.search(fill(wanted[part], words), text, re.IGNORECASE | re.MULTILINE):
            return f"{answer.url}: its {part} is another one"
    return ""
