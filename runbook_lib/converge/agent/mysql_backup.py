# What the kind mysql builds on: a database as a script, and a script as a database. Only what follows the marker is sent.
from .core import *  # noqa: F403

# --- agent ---
import gzip, shutil  # noqa: E401, E402

BACKUPS = "/var/backups/runbook-mysql"


def client(name):
    """MariaDB's programs carry its name and keep MySQL's as links; MySQL has its own only."""
    found = shutil.which(name.replace("mysql", "mariadb-") if name == "mysqldump" else "mariadb") or shutil.which(name)
    if not found:
        raise Failed("no %s on this host: the database server is not installed" % name)
    return found


def contents(lines, into=None):
    """Of a dump that goes by: a digest of its rows, which the same rows always have; the databases it fills; whether it came to its end."""
    rows, databases, last = hashlib.sha256(), set(), b""
    for line in lines:
        if into:
            into.write(line)
        if line.startswith(b"INSERT INTO"):
            rows.update(line)
        elif line.startswith(b"USE `"):
            databases.add(line.split(b"`")[1].decode())
        last = line if line.strip() else last
    return rows.hexdigest(), databases, last.startswith(b"-- Dump completed")


def dump_command(database):
    """The program and its options. A dump of MySQL's own names the transactions (GTIDs) that it holds, which a server that knows them
    refuses to load: they are left out. MariaDB's program has no such option."""
    program = client("mysqldump")
    options = ["--no-defaults", "--user=root", "--protocol=socket", "--single-transaction", "--routines", "--hex-blob"]
    return [program, *options, *([] if "MariaDB" in run([program, "--version"]) else ["--set-gtid-purged=OFF"]), "--databases", database]


def dump_into(database, into):
    """The database as a script, rows in the order of their keys; the digest of its rows. Complete or an error."""
    command = dump_command(database)
    with tempfile.TemporaryFile() as words, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=words) as source:
        rows, _, whole = contents(source.stdout, into)
        code = source.wait()
        words.seek(0)
        said = words.read().decode(errors="replace").strip()
    if code or not whole:
        raise Failed("the dump of %s did not complete, so nothing was dropped: %s" % (database, said or "exit %d" % code))
    return rows


def dump(database):
    """The database as a gzipped script that only root can read: its path and the digest of its rows. Complete or an error."""
    os.makedirs(BACKUPS, mode=0o700, exist_ok=True)
    os.chmod(BACKUPS, 0o700)
    path = os.path.join(BACKUPS, "%s-%s-%d.sql.gz" % (database, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), os.getpid()))
    handle = os.open(path + ".part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "wb") as raw:
            with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed:
                rows = dump_into(database, packed)
            raw.flush()
            os.fsync(raw.fileno())
    except BaseException:
        os.unlink(path + ".part")
        raise
    os.rename(path + ".part", path)
    return path, rows


def keep(database):
    """A dump, and word of it."""
    path, rows = dump(database)
    say(progress=0, of=1, doing="%s dumped to %s" % (database, path), dump=path, rows=rows, size=os.path.getsize(path), database=database)


def pour(path, database, into):
    """A gzipped dump of one database into the server under the name `into`, never whole in memory."""
    command = [client("mysql"), "--no-defaults", "--user=root", "--protocol=socket"]
    old, new = ("`%s`" % name for name in (database, into))
    with gzip.open(path) as script, tempfile.TemporaryFile() as words:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=words, stderr=words) as server:
            try:
                for line in script:  # no row begins so: a dump writes a line break within a value as \\n
                    server.stdin.write(line.replace(old.encode(), new.encode()) if line.startswith((b"CREATE DATABASE ", b"USE `")) else line)
                server.stdin.close()
            except BrokenPipeError:  # it stopped at an error, which its words name
                pass
            code = server.wait()
        words.seek(0)
        if code:
            raise Failed("the server stopped at: %s" % words.read().decode(errors="replace").strip())


def rows_of(database):
    """The digest of a database's rows."""
    with open(os.devnull, "wb") as nowhere:
        return dump_into(database, nowhere)
