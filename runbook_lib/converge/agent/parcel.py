# Kind: parcel (files of some folders, as one tar archive that is sent to a store or fetched from it). Only what follows the marker is sent.
from .core import *  # noqa: F403
from .homes import *  # noqa: F403
from .transfer import *  # noqa: F403

# --- agent ---
tarfile = Later("tarfile")


class Parcels:
    @staticmethod
    def send(r):
        """Pack the files of r["folders"] in the home r["base"] with one of r["endings"] and send them; say what went. None: nothing is sent.

        What the home's own archive brought stays out, unless it was changed since.
        """
        brought = read_manifest(r["base"]) or {}
        found = []
        for folder in r["folders"]:
            there = os.path.join(r["base"], folder)
            names = sorted(os.listdir(there)) if os.path.isdir(there) else []
            found += [os.path.join(folder, name) for name in names if name.endswith(tuple(r["endings"]))]
        paths = {name: os.path.join(r["base"], name) for name in found}
        found = [name for name, path in paths.items() if os.path.isfile(path) and brought.get(name) != checksum(path)]
        if not found:
            say(progress=1, of=1, doing="no archives to send", holds=[])
            return
        path = os.path.join(shelf(), "parcel-%d.tar.gz" % os.getpid())
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
                for name in found:
                    archive.add(paths[name], name, recursive=False)
            send(path, r["to"])
            say(progress=1, of=1, doing="%d archives sent" % len(found), holds=found, size=os.path.getsize(path), sha256=digest_of(path))
        finally:
            os.unlink(path)

    @staticmethod
    def take(r, keep=True):
        """Fetch a parcel and put its files below r["base"] where they differ; say which were put. No other file is changed."""
        path = os.path.join(shelf(), "parcel-%d.tar.gz" % os.getpid())
        put = []
        try:
            fetch(r["from"], path, r["sha256"])
            with tarfile.open(path) as archive:
                for name in r["holds"]:
                    if name.startswith(("/", "..")) or "/../" in name:
                        raise Failed("%s leads out of %s" % (name, r["base"]))
                    target = os.path.join(r["base"], name)
                    content = archive.extractfile(name).read()
                    if not keep or (os.path.exists(target) and digest_of(target) == hashlib.sha256(content).hexdigest()):
                        continue
                    with open(os.open(target + ".part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640), "wb") as out:
                        out.write(content)
                    set_owner(target + ".part", r["owner"])
                    os.replace(target + ".part", target)
                    put.append(name)
        except (tarfile.TarError, KeyError, EOFError) as error:
            raise Failed("the parcel is not what its manifest says: %s" % error)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        say(progress=1, of=1, doing="%d archives put" % len(put), put=put)

    @staticmethod
    def check(r):
        """Fetch a parcel and read every file of it; put nothing. Raises Failed when it is not whole."""
        Parcels.take(r, keep=False)


@handles("parcel")
class ParcelHandler:
    @staticmethod
    def probe(resources):
        return [{} for _ in resources]

    @staticmethod
    def apply(resources):
        for r in resources:
            getattr(Parcels, r["what"])(r)
