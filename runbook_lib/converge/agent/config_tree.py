# Kind: config_tree (a service's configuration, tested and activated as one tree). Only what follows the marker is sent.
from .core import *  # noqa: F403

# --- agent ---
socket = Later("socket")

RELOAD_SECONDS = 15
TAKEN = 20  # consecutive responses from the new version: shortly after a reload, old and new workers both accept connections


def version_of(r):
    """Return the version that the link points to; None when it is not a link into the tree."""
    target = os.readlink(r["link"]) if os.path.islink(r["link"]) else ""
    folder, name = os.path.split(target)
    return os.path.basename(folder) if name == r["entry"] and os.path.dirname(folder) == r["root"] else None


def running(r):
    """Return the version that the service reports; "other" when it answers with an error; None when nothing answers."""
    host, _, port = r["status"].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=3) as wire:
            wire.sendall(b"GET /version HTTP/1.0\r\n\r\n")
            head, _, body = wire.makefile("rb").read(4096).partition(b"\r\n\r\n")
    except OSError:
        return None
    return body[:64].decode("ascii", "replace").strip() if b" 200 " in head.split(b"\r\n")[0] else "other"


def is_active(r):
    return asked(r["active"])[0] == 0


def files_below(folder):
    """Return the full paths of all files below the folder, by their relative paths."""
    found = {}
    for path, _, names in os.walk(folder):
        for name in names:
            found[os.path.relpath(os.path.join(path, name), folder)] = os.path.join(path, name)
    return found


@handles("config_tree")
class Trees:
    @staticmethod
    def probe(resources):
        return [Trees.probe_one(r) for r in resources]

    @staticmethod
    def probe_one(r):
        linked, now = version_of(r), running(r)
        fact = {"linked": linked, "running": now, "active": now is not None or is_active(r), "files": {}}
        for name, path in files_below(os.path.join(r["root"], linked)).items() if linked else ():
            with open(path, "rb") as source:
                data = source.read()
            wish = r["files"].get(name, {})
            found = {"sha256": hashlib.sha256(data).hexdigest(), "mode": stat.S_IMODE(os.stat(path).st_mode)}
            if found["sha256"] != wish.get("sha256") and wish and not wish["secret"]:
                found["content"] = pack(data)
            fact["files"][name] = found
        return fact

    @staticmethod
    def apply(resources):
        """Write, test and activate each configuration. Raises Failed when the test fails or the service does not load it."""
        for r in resources:
            fresh = Trees.write(r)
            try:
                run([word.replace("{entry}", os.path.join(fresh, r["entry"])) for word in r["test"]])
            except Failed as error:
                if version_of(r) != r["version"]:
                    shutil.rmtree(fresh, ignore_errors=True)
                raise Failed("the new configuration fails its test, so the old one stays: %s" % error)
            Trees.switch(r)
            Trees.clear(r)

    @staticmethod
    def write(r):
        """Write all files of the version and return its folder. They are written to a temporary folder, which is then renamed."""
        folder, beside = os.path.join(r["root"], r["version"]), os.path.join(r["root"], ".new-%d" % os.getpid())
        os.makedirs(r["root"], exist_ok=True)
        shutil.rmtree(beside, ignore_errors=True)
        for name, content in r["contents"].items():
            path = os.path.join(beside, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.write(unpack(content))
                os.fsync(out.fileno())
            os.chmod(path, r["files"][name]["mode"])
        if os.path.exists(folder):  # the same version, changed by somebody else
            os.rename(folder, folder + ".damaged")
        os.rename(beside, folder)
        shutil.rmtree(folder + ".damaged", ignore_errors=True)
        return folder

    @staticmethod
    def point(r, target):
        """Make the link point to `target` in one step, so that a reader finds either the old configuration or the new one."""
        beside = "%s.runbook-%d" % (r["link"], os.getpid())
        os.symlink(target, beside)
        os.replace(beside, r["link"])

    @staticmethod
    def switch(r):
        """Point the link to the new version and reload the service.

        When the service does not run the new version within RELOAD_SECONDS, point the link back, reload again and raise Failed.
        """
        kept = os.path.join(r["root"], "original")
        before = os.readlink(r["link"]) if os.path.islink(r["link"]) else None
        if before is None and os.path.exists(r["link"]):
            shutil.copy2(r["link"], kept)  # the configuration that the package installed
            before = kept
        Trees.point(r, os.path.join(r["root"], r["version"], r["entry"]))
        if not is_active(r):
            return  # the service does not run; it reads the new configuration when it starts
        try:
            run(r["reload"])
            words = "it still runs the old one %d seconds after the reload" % RELOAD_SECONDS
        except Failed as error:
            words = str(error)
        deadline, in_a_row = time.monotonic() + RELOAD_SECONDS, 0
        while time.monotonic() < deadline and "exited" not in words:
            in_a_row = in_a_row + 1 if running(r) == r["version"] else 0
            if in_a_row == TAKEN:
                return
            time.sleep(0.005 if in_a_row else 0.05)
        if before is not None:
            Trees.point(r, before)
            subprocess.run(r["reload"], stdin=subprocess.DEVNULL, capture_output=True)
        raise Failed("the service did not take the new configuration, so the old one is back: %s" % words)

    @staticmethod
    def clear(r):
        """Remove all versions except this one and the newest of the others, which is kept for inspection."""
        others = [entry for entry in os.scandir(r["root"]) if entry.is_dir() and entry.name != r["version"]]
        for entry in sorted(others, key=lambda entry: entry.stat().st_mtime)[:-1]:
            shutil.rmtree(entry.path, ignore_errors=True)
