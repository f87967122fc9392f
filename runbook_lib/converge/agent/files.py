# Kinds: file, edited, directory, absent. Only what follows the marker is sent; core.py precedes it.
from .core import *  # noqa: F403

# --- agent ---
UNITS = "/etc/systemd/system/"
LARGEST_DIFF = 400_000  # the largest content, in bytes, that a probe returns


def replace_file(path, data, mode, owner):
    """Replace the file in one step: write a temporary file beside it and rename that, so that no reader sees a partial file."""
    handle, beside = tempfile.mkstemp(prefix=".runbook-", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(beside, mode)
        set_owner(beside, owner)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


@handles("file", "edited", "directory", "absent")
class Files:
    @staticmethod
    def probe(resources):
        return [Files.probe_one(r) for r in resources]

    @staticmethod
    def probe_one(r):
        try:
            status = os.lstat(r["path"])
        except (FileNotFoundError, NotADirectoryError):
            return {"type": "absent"}
        fact = {"mode": stat.S_IMODE(status.st_mode), "owner": owner_of(status)}
        if stat.S_ISLNK(status.st_mode):
            return {**fact, "type": "symlink", "target": os.readlink(r["path"])}
        if stat.S_ISDIR(status.st_mode):
            return {**fact, "type": "directory"}
        if r["kind"] in ("absent", "directory"):
            return {**fact, "type": "file"}
        with open(r["path"], "rb") as source:
            data = source.read()
        fact.update(type="file", sha256=hashlib.sha256(data).hexdigest())
        differs = fact["sha256"] != r.get("sha256")
        if differs and not r.get("secret") and fact["sha256"] not in r.get("known", ()) and len(data) <= LARGEST_DIFF:
            fact["content"] = pack(data)
        return fact

    @staticmethod
    def apply(resources):
        for r in resources:
            getattr(Files, "apply_" + r["kind"])(r)
        if any(r["path"].startswith(UNITS) for r in resources):  # also those that no start of a unit follows
            run(["systemctl", "daemon-reload"])

    @staticmethod
    def apply_file(r):
        if os.path.isdir(r["path"]):
            raise Failed("%s is a directory, a file was asked for" % r["path"])
        os.makedirs(os.path.dirname(r["path"]), exist_ok=True)
        replace_file(r["path"], unpack(r["content"]), r["mode"], r["owner"])

    @staticmethod
    def apply_edited(r):
        """Write the edited content, or only set mode and owner.

        Raises Failed when the file no longer has the content that was edited (`edited_from`), or was removed since the probe.
        """
        if not os.path.lexists(r["path"]):
            if "content" not in r or r["edited_from"] is not None or not os.path.isdir(os.path.dirname(r["path"])):
                raise Failed("%s is gone, which the product brought" % r["path"])
            replace_file(r["path"], unpack(r["content"]), 0o644 if r["mode"] is None else r["mode"], r["owner"])
            return
        with open(r["path"], "rb") as source:
            data = source.read()
        if hashlib.sha256(data).hexdigest() != r["edited_from"]:
            raise Failed("%s changed while it was being edited; run again" % r["path"])
        status = os.stat(r["path"])
        mode = stat.S_IMODE(status.st_mode) if r["mode"] is None else r["mode"]
        replace_file(r["path"], unpack(r["content"]) if "content" in r else data, mode, r["owner"] or owner_of(status))

    @staticmethod
    def apply_directory(r):
        if os.path.lexists(r["path"]) and not os.path.isdir(r["path"]):
            raise Failed("%s is not a directory" % r["path"])
        os.makedirs(r["path"], exist_ok=True)
        os.chmod(r["path"], r["mode"])
        set_owner(r["path"], r["owner"])

    @staticmethod
    def apply_absent(r):
        if os.path.isdir(r["path"]) and not os.path.islink(r["path"]):
            shutil.rmtree(r["path"])
        elif os.path.lexists(r["path"]):
            os.unlink(r["path"])
