# Runs on the host. See the package's docstring. One request: {"verb": "probe"|"apply", "resources": [...]}.
import binascii, grp, json, os, pwd, stat, sys, time, zlib  # noqa: E401


class Later:
    """A module that is imported when something in it is first used. To import what only an apply needs would take longer than a probe."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        __import__(self._name)
        return getattr(sys.modules[self._name], attribute)


contextlib, hashlib, shutil, subprocess, tempfile = map(Later, ("contextlib", "hashlib", "shutil", "subprocess", "tempfile"))
HANDLERS = {}  # type: dict  # kind -> class with probe(resources) -> [fact] and apply(resources)


class Failed(Exception):
    """Raised when a resource could not be probed or applied; the message is shown to the user."""


def handles(*kinds):
    """Return a decorator that registers a class as the handler of these kinds."""

    def register(cls):
        for kind in kinds:
            HANDLERS[kind] = cls
        return cls

    return register


def run(command, stdin=None, env=None):
    """Run a command (an argument list) and return its output. Raises Failed with its last 12 lines when it exits with another code than 0."""
    done = subprocess.run(command, input=stdin, capture_output=True, env={**os.environ, **(env or {})})
    if done.returncode:
        last = (done.stdout + b"\n" + done.stderr).decode(errors="replace").strip().splitlines()[-12:]  # the reason stands among the errors
        name = command if isinstance(command, str) else " ".join(command[:6])
        raise Failed("`%s` exited %d: %s" % (name, done.returncode, "\n".join(last)))
    return done.stdout.decode(errors="replace")


def asked(command):
    """Run a command without input and return its exit status and its output, without its errors. For probes: it needs no `subprocess`."""
    out, into = os.pipe()
    nothing = [(os.POSIX_SPAWN_OPEN, at, os.devnull, os.O_RDWR, 0) for at in (0, 2)]
    signals = (13, 25)  # SIGPIPE and SIGXFSZ, which Python itself ignores
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=[*nothing, (os.POSIX_SPAWN_DUP2, into, 1)], setsigdef=signals)
    os.close(into)
    with open(out, errors="replace") as said:
        text = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def pack(data):
    return binascii.b2a_base64(zlib.compress(data, 1), newline=False).decode()


def unpack(text):
    return zlib.decompress(binascii.a2b_base64(text))


def owner_of(status):
    try:
        return "%s:%s" % (pwd.getpwuid(status.st_uid).pw_name, grp.getgrgid(status.st_gid).gr_name)
    except KeyError:
        return "%d:%d" % (status.st_uid, status.st_gid)


def set_owner(path, owner):
    if owner:
        user, _, group = owner.partition(":")
        shutil.chown(path, user, group or user)


def grouped(resources):
    """Return (handler, [(index, resource)]) for each run of consecutive resources with one handler, so that apt-get is called once for all."""
    groups = []
    for index, resource in enumerate(resources):
        handler = HANDLERS[resource["kind"]]
        if not groups or groups[-1][0] is not handler:
            groups.append((handler, []))
        groups[-1][1].append((index, resource))
    return groups


def say(**message):
    """Send one message to the operator: a line of JSON on stdout."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def probe(resources):
    """Return the facts in the order of the resources. Each handler is called once with all resources of its kinds."""
    facts = [None] * len(resources)
    by_handler = {}
    for index, resource in enumerate(resources):
        by_handler.setdefault(HANDLERS[resource["kind"]], []).append((index, resource))
    for handler, members in by_handler.items():
        for (index, _), fact in zip(members, handler.probe([resource for _, resource in members])):
            facts[index] = fact
    return facts


def apply(resources):
    """Apply the resources in their order and report the progress of each group."""
    for handler, members in grouped(resources):
        said = members[0][1]["key"] if len(members) == 1 else "%s and %d more" % (members[0][1]["key"], len(members) - 1)
        say(progress=members[0][0], of=len(resources), doing=said)
        handler.apply([resource for _, resource in members])


def main():
    request = json.loads(sys.stdin.buffer.read())
    os.umask(0o022)
    try:
        if request["verb"] == "probe":
            say(facts=probe(request["resources"]))
        else:
            apply(request["resources"])
            say(applied=len(request["resources"]))
    except Failed as error:
        say(failed=str(error))
    except OSError as error:  # no space, read-only file system, permission: the system's message says it best
        say(failed="%s: %s" % (error.filename or "system", error.strerror or error))
