# Kind: archive (zip or tar by URL with sha256). Only what follows the marker is sent; core.py and homes.py precede it.
from .core import *  # noqa: F403
from .homes import *  # noqa: F403
from .transfer import *  # noqa: F403

# --- agent ---
fcntl, _web, zipfile = map(Later, ("fcntl", "urllib.request", "zipfile"))

STAMP = ".runbook-archive"  # a file in the unpacked tree with the sha256 of its archive
CACHE = "/var/cache/runbook-archives"


def download(url, sha256):
    """Fetch the archive into the cache and return its path there.

    Raises Failed when it cannot be fetched or has another sha256; then it is not kept.
    """
    target = os.path.join(CACHE, sha256)
    if os.path.exists(target) and digest_of(target) == sha256:  # a power cut can leave a file that lacks content
        return target
    digest, place = hashlib.sha256(), url.split("?")[0]  # a presigned URL has its signature in the query
    try:
        with _web.urlopen(url, timeout=60) as source, open(target + ".part", "wb") as out:
            for block in iter(lambda: source.read(1 << 20), b""):
                digest.update(block)
                out.write(block)
            refuse_cut(source, place)
    except (_web.URLError, TimeoutError, ConnectionError) as error:
        raise Failed("cannot fetch %s: %s" % (place, getattr(error, "reason", error)))
    if digest.hexdigest() != sha256:
        os.unlink(target + ".part")
        raise Failed("%s has sha256 %s, expected %s" % (place, digest.hexdigest(), sha256))
    os.replace(target + ".part", target)
    return target


def listing_of(archive):
    """Return [size, CRC, mode] by path of everything in a zip below its single top folder, itself `./`; folders end in a slash."""
    with zipfile.ZipFile(archive) as z:
        entries = z.infolist()
    tops = {entry.filename.split("/", 1)[0] for entry in entries}
    top = tops.pop() + "/" if len(tops) == 1 else ""
    return {e.filename[len(top) :] or "./": [e.file_size, e.CRC, (e.external_attr >> 16) & 0o777] for e in entries}


def extract(archive, into):
    """Unpack a zip (with the modes of its files) or a tar archive into the directory `into`."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as z:
            for entry in z.infolist():
                path = z.extract(entry, into)  # never writes outside `into`
                if entry.external_attr >> 16:
                    os.chmod(path, (entry.external_attr >> 16) & 0o777)
    else:
        run(["tar", "-xf", archive, "-C", into, "--no-same-owner"])


def unpacked_from(home):
    """Return the sha256 of the archive that this tree was unpacked from, None where there is no such tree."""
    if not os.path.exists(os.path.join(home, STAMP)):
        return None
    with open(os.path.join(home, STAMP)) as stamp:
        return stamp.read().strip()


@handles("archive")
class Archives:
    @staticmethod
    def probe(resources):
        facts = []
        for r in resources:
            home = standing(r["path"]) if r.get("rules") else r["path"]
            fact = {"sha256": unpacked_from(home), "exists": os.path.exists(home)}
            if r.get("rules") and fact["exists"] and fact["sha256"] != r["sha256"]:
                fact.update(differences(home, r["rules"]), version="")
                with contextlib.suppress(OSError), open(os.path.join(home, r["rules"]["version"])) as version:
                    fact["version"] = " ".join(version.read().split())
            facts.append(fact)
        return facts

    @staticmethod
    def apply(resources):
        """Apply the resources under a lock: an unpacking may still be running whose operator lost the connection."""
        os.makedirs(CACHE, mode=0o700, exist_ok=True)
        lock = os.open(CACHE, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for r in resources:
                if unpacked_from(r["path"]) != r["sha256"]:  # what was waited for may have been this
                    Archives.apply_one(r)
        finally:
            os.close(lock)

    @staticmethod
    def apply_one(r):
        archive = download(r["url"], r["sha256"])
        listing = listing_of(archive) if r.get("rules") else {}
        fresh = r["path"] + ".runbook-new"
        shutil.rmtree(fresh, ignore_errors=True)
        if listing:
            refuse_without_room(fresh, sum(entry[0] for entry in listing.values()))
        os.makedirs(fresh)
        try:
            extract(archive, fresh)
            tree = fresh
            inside = os.listdir(fresh)
            if len(inside) == 1 and os.path.isdir(os.path.join(fresh, inside[0])):
                tree = os.path.join(fresh, inside[0])  # the archive of a product has a single top folder
            with open(os.path.join(tree, STAMP), "w") as stamp:
                stamp.write(r["sha256"] + "\n")
            if r.get("owner"):
                run(["chown", "-R", r["owner"], tree])
            if r.get("rules"):
                write_manifest(tree, listing)
            if r.get("rules") and os.path.exists(standing(r["path"])):
                put_in_place(r, tree, listing)
            else:
                if os.path.exists(r["path"]):
                    os.rename(r["path"], "%s.replaced-%d" % (r["path"], time.time()))
                os.rename(tree, r["path"])
        except OSError as error:
            raise Failed("cannot unpack to %s: %s" % (r["path"], error.strerror))
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        os.unlink(archive)
