# Kind: archive (zip or tar by URL with sha256). Only what follows the marker is sent; core.py precedes it.
from .core import *  # noqa: F403

# --- agent ---
import shutil as _shutil, tarfile, urllib.error, urllib.request, zipfile  # noqa: E401, E402

STAMP = ".runbook-archive"  # a file in the unpacked tree with the sha256 of its archive
CACHE = "/var/cache/runbook-archives"


def download(url, sha256):
    """Fetch the archive into the cache and return its path there.

    Raises Failed when it cannot be fetched or has another sha256; then it is not kept.
    """
    target = os.path.join(CACHE, sha256)
    if os.path.exists(target):
        return target
    os.makedirs(CACHE, mode=0o700, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=60) as source, open(target + ".part", "wb") as out:
            for block in iter(lambda: source.read(1 << 20), b""):
                digest.update(block)
                out.write(block)
    except urllib.error.URLError as error:  # a presigned URL has its signature in the query, so the message leaves the query out
        raise Failed("cannot fetch %s: %s" % (url.split("?")[0], getattr(error, "reason", error)))
    if digest.hexdigest() != sha256:
        os.unlink(target + ".part")
        raise Failed("%s has sha256 %s, expected %s" % (url.split("?")[0], digest.hexdigest(), sha256))
    os.replace(target + ".part", target)
    return target


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


@handles("archive")
class Archives:
    @staticmethod
    def probe(resources):
        facts = []
        for r in resources:
            try:
                with open(os.path.join(r["path"], STAMP)) as stamp:
                    facts.append({"sha256": stamp.read().strip()})
            except OSError:
                facts.append({"sha256": None, "exists": os.path.exists(r["path"])})
        return facts

    @staticmethod
    def apply(resources):
        for r in resources:
            archive = download(r["url"], r["sha256"])
            fresh = r["path"] + ".runbook-new"
            _shutil.rmtree(fresh, ignore_errors=True)
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
                if os.path.exists(r["path"]):
                    os.rename(r["path"], "%s.replaced-%d" % (r["path"], time.time()))
                os.rename(tree, r["path"])
            except OSError as error:
                raise Failed("cannot unpack to %s: %s" % (r["path"], error.strerror))
            finally:
                _shutil.rmtree(fresh, ignore_errors=True)
            os.unlink(archive)
