# For kinds that send files to a store and fetch them from it, by URLs that need no credentials. Only what follows the marker is sent.
from .core import *  # noqa: F403

# --- agent ---
_re, _web = Later("re"), Later("urllib.request")

SHELF = "/var/backups/runbook-mysql"  # for root only


def shelf():
    """Return the folder for what is sent and fetched; only root can look into it."""
    os.makedirs(SHELF, mode=0o700, exist_ok=True)
    os.chmod(SHELF, 0o700)
    return SHELF


def digest_of(path):
    with open(path, "rb") as source:
        digest = hashlib.sha256()
        for block in iter(lambda: source.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def asked_of(way, verb, what, data=None, length=0):
    """Return the answer to a request of the way; the query of its URL holds a signature and is in no message. Raises Failed."""
    request = _web.Request(way["url"], data=data, method=verb, headers=way["headers"])
    if data is not None:
        request.add_header("Content-Length", str(length))
        request.add_header("Content-Type", "application/octet-stream")
    place = way["url"].split("?")[0]
    try:
        return _web.urlopen(request, timeout=300)
    except _web.HTTPError as error:
        code = _re.search(rb"<Code>([^<]+)</Code>", error.read(4000))
        raise Failed("%s %s: S3 refused (%d %s)" % (what, place, error.code, code.group(1).decode() if code else error.reason))
    except OSError as error:  # also one that says nothing for too long, or hangs up
        raise Failed("%s %s: cannot be reached (%s)" % (what, place, getattr(error, "reason", error)))


def blocks(source, doing):
    """Yield the content of a file or an answer, with a sign of life for the operator now and then."""
    for number, block in enumerate(iter(lambda: source.read(1 << 20), b"")):
        if number and not number % 256:
            say(progress=0, of=1, doing="%s: %d MiB" % (doing, number))
        yield block


def refuse_cut(source, place):
    """Raise Failed when an answer that was read to its end lacks content: reading alone does not tell a connection that was closed early."""
    if getattr(source, "length", None):
        raise Failed("cannot fetch %s: cut short, %d bytes are missing" % (place, source.length))


def send(path, way):
    """Send a file to its place, whole or not at all. Raises Failed."""
    with open(path, "rb") as source:
        asked_of(way, "PUT", "cannot send to", blocks(source, "sending"), os.path.getsize(path)).close()


def fetch(way, target, sha256):
    """Fetch a file to `target`. Raises Failed when it cannot be fetched or has another sha256; then it is not kept."""
    digest, place = hashlib.sha256(), way["url"].split("?")[0]
    handle = os.open(target + ".part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "wb") as out, asked_of(way, "GET", "cannot fetch") as source:
            for block in blocks(source, "fetching"):
                digest.update(block)
                out.write(block)
            refuse_cut(source, place)
        if digest.hexdigest() != sha256:
            raise Failed("%s has sha256 %s, its manifest says %s: damaged" % (place, digest.hexdigest(), sha256))
        os.replace(target + ".part", target)
    except (TimeoutError, ConnectionError) as error:
        raise Failed("cannot fetch %s: cut short (%s)" % (place, error))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target + ".part")
