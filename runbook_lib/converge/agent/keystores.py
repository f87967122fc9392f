# Kinds: keystore (a private key and its certificate), truststore (certificates under aliases). core.py precedes it.
from .core import *  # noqa: F403


# --- agent ---
def stamp_of(path):
    """Return the path of the file that records what the store at `path` was made of, and the store's digest."""
    return path + ".runbook"


def mended_of(path):
    """Return the path of the file whose change tells that the store at `path` was another hand's, and was made again."""
    return path + ".mended"


def file_digest(path):
    with open(path, "rb") as source:
        return hashlib.sha256(source.read()).hexdigest()


@handles("keystore", "truststore")
class Keystores:
    """Keystores and truststores, made with keytool.

    keytool takes a second per call. So a probe does not call it: it reads the stamp, which holds what the store was made of
    and the digest of the store. A store that has another digest was changed by somebody else.
    """

    @staticmethod
    def probe(resources):
        return [Keystores.probe_one(r["path"]) for r in resources]

    @staticmethod
    def probe_one(path):
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return {"exists": False, "made_of": None, "intact": False}
        fact = {"exists": True, "mode": stat.S_IMODE(status.st_mode), "owner": owner_of(status)}
        try:
            with open(stamp_of(path)) as stamp:
                made_of, result = stamp.read().split()
            return {**fact, "made_of": made_of, "intact": result == file_digest(path)}
        except (OSError, ValueError):
            return {**fact, "made_of": None, "intact": False}

    @staticmethod
    def apply(resources):
        for r in resources:
            fact = Keystores.probe_one(r["path"])
            if not (fact["intact"] and fact["made_of"] == r["made_of"]):
                Keystores.make(r)
                if fact["exists"] and not fact["intact"]:
                    open(mended_of(r["path"]), "w").close()
            os.chmod(r["path"], r["mode"])
            set_owner(r["path"], r["owner"])

    @staticmethod
    def make(r):
        """Make the store in a directory beside it, rename it into place and write its stamp."""
        work = tempfile.mkdtemp(prefix=".runbook-", dir=os.path.dirname(r["path"]))
        try:
            fresh = os.path.join(work, "store")
            getattr(Keystores, "make_" + r["kind"])(r, fresh, work)
            os.chmod(fresh, r["mode"])
            set_owner(fresh, r["owner"])
            os.replace(fresh, r["path"])
            with open(stamp_of(r["path"]), "w") as stamp:
                stamp.write("%s %s\n" % (r["made_of"], file_digest(r["path"])))
        finally:
            shutil.rmtree(work, ignore_errors=True)

    @staticmethod
    def make_keystore(r, fresh, work):
        pkcs12 = os.path.join(work, "in.p12")
        with open(os.open(pkcs12, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as out:
            out.write(unpack(r["pkcs12"]))
        run(
            [r["keytool"], "-importkeystore", "-noprompt", "-srckeystore", pkcs12, "-srcstoretype", "PKCS12", "-srcstorepass:env", "RB_PASS",
             "-srcalias", r["alias"], "-destkeystore", fresh, "-deststoretype", "JKS", "-deststorepass:env", "RB_PASS", "-destkeypass:env", "RB_PASS"],
            env={"RB_PASS": r["password"]},
        )  # fmt: skip

    @staticmethod
    def make_truststore(r, fresh, work):
        if os.path.exists(r["path"]) and not r["whole"]:
            shutil.copyfile(r["path"], fresh)
        store = ["-keystore", fresh, "-storetype", "JKS", "-storepass:env", "RB_PASS"]
        for alias, certificate in sorted(r["certificates"].items()):
            if os.path.exists(fresh):
                with contextlib.suppress(Failed):  # not there yet
                    run([r["keytool"], "-delete", "-alias", alias, *store], env={"RB_PASS": r["password"]})
            run([r["keytool"], "-importcert", "-noprompt", "-alias", alias, *store], stdin=certificate.encode(), env={"RB_PASS": r["password"]})
