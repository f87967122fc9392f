# For the kind mysql: dump a database to a script, and load a script into a database. Only what follows the marker is sent.
from .core import *  # noqa: F403
from .transfer import *  # noqa: F403

# --- agent ---
gzip = Later("gzip")
LARGEST = "--max-allowed-packet=1G"  # a document in the registry is one value, and one statement of a dump: twice as long there, in hex


def client(name):
    """Return the path of the client program `name`, under MariaDB's own name for it where that exists; MySQL's name may be only a link there.

    Raises Failed when there is none.
    """
    found = shutil.which(name.replace("mysql", "mariadb-") if name == "mysqldump" else "mariadb") or shutil.which(name)
    if not found:
        raise Failed("no %s on this host: the database server is not installed" % name)
    return found


def alive(lines, doing):
    """Yield the lines, and say every few seconds that they come: a caller takes a long silence for a lost host. Without a caller it goes on."""
    told = time.monotonic()
    for line in lines:
        yield line
        if time.monotonic() - told > 5:
            told = time.monotonic()
            with contextlib.suppress(BrokenPipeError):
                say(waiting=doing)


class Rows:
    """The digest of a dump's rows, the same for the same rows however they are spread over lines and statements.

    MariaDB writes each row on a line of its own from 10.7 on, and each statement on one line before; MySQL does the latter. How many rows a
    statement takes differs too. What is hashed is one INSERT statement for each table, on one line. No line end within a value is lost by that,
    because a dump writes those as \\n: each raw one stands between rows, and other rows are another statement.
    """

    def __init__(self):
        self.digest, self.table, self.inside = hashlib.sha256(), b"", False

    def take(self, line):
        """Take the next line of the dump, whatever it is."""
        if line.startswith(b"INSERT INTO `"):
            table, _, line = line.partition(b" VALUES")
            self.digest.update(b"," if table == self.table else b"\n" + table)
            self.table, self.inside = table, True
        if self.inside:
            self.digest.update(line.strip(b" ;\n"))  # outside its ends, which are a row's ( and ), or the comma after it
            self.inside = not line.endswith(b";\n")


def contents(lines, into=None):
    """Read a dump line by line; return the digest of its rows, the names of the databases that it fills, and whether it is complete.

    Equal rows have equal digests. With `into`, the lines are also written there.
    """
    rows, databases, last = Rows(), set(), b""
    for line in alive(lines, "a dump is read"):
        if into:
            into.write(line)
        rows.take(line)
        if line.startswith(b"USE `"):
            databases.add(line.split(b"`")[1].decode())
        last = line if line.strip() else last
    return rows.digest.hexdigest(), databases, last.startswith(b"-- Dump completed")


def dump_command(database):
    """Return the dump program with its options.

    A dump made by MySQL's program names its transactions (GTIDs), and a server that already has them refuses to load it. So they are
    left out. MariaDB's program has no such option.
    """
    program = client("mysqldump")
    options = ["--no-defaults", "--user=root", "--protocol=socket", LARGEST, "--single-transaction", "--routines", "--hex-blob"]
    return [program, *options, *([] if "MariaDB" in run([program, "--version"]) else ["--set-gtid-purged=OFF"]), "--databases", database]


def dump_into(database, into):
    """Write the database to `into` as a script and return the digest of its rows. Raises Failed when the dump is not complete."""
    command = dump_command(database)
    with tempfile.TemporaryFile() as words, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=words) as source:
        rows, _, whole = contents(source.stdout, into)
        code = source.wait()
        words.seek(0)
        said = words.read().decode(errors="replace").strip()
    if code or not whole:
        raise Failed("the dump of %s did not complete, so nothing was dropped: %s" % (database, said or "exit %d" % code))
    return rows


def place_of(database):
    """Return where a dump of the database that is made or fetched now lies."""
    return os.path.join(shelf(), "%s-%s-%d.sql.gz" % (database, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), os.getpid()))


def dump(database):
    """Write the database to a gzipped script that only root can read; return its path and the digest of its rows.

    Raises Failed when the dump is not complete; then no file is left.
    """
    path = place_of(database)
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


def keep(database, way=None):
    """Dump the database and report the dump's path, size and digest of rows to the operator. With `way`, send it there; the file here goes then."""
    path, rows = dump(database)
    more = {"sha256": digest_of(path)} if way else {}
    size = os.path.getsize(path)
    if way:
        try:
            send(path, way)
        finally:
            os.unlink(path)
    say(progress=0, of=1, doing="%s dumped" % database, dump=path, rows=rows, size=size, database=database, **more)


def examined(path, database):
    """Return the digest of a dump's rows. Raises Failed when it cannot be read to its end or is of another database."""
    try:
        with gzip.open(path) as lines:
            rows, databases, whole = contents(lines)
    except (OSError, EOFError, zlib.error) as error:
        raise Failed("the dump %s cannot be read, nothing was dropped: %s" % (path, error))
    if not whole or databases != {database}:
        why = "is of %s" % ", ".join(sorted(databases)) if whole else "was cut short"
        raise Failed("the dump %s %s: it cannot restore %s, nothing was dropped" % (path, why, database))
    return rows


def pour(path, database, into):
    """Load a gzipped dump of one database into the server under the name `into`, line by line. Raises Failed at the server's first error."""
    command = [client("mysql"), "--no-defaults", "--user=root", "--protocol=socket", LARGEST]
    old, new = ("`%s`" % name for name in (database, into))
    with gzip.open(path) as script, tempfile.TemporaryFile() as words:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=words, stderr=words) as server:
            try:
                for line in alive(script, "a dump is loaded"):  # no line of a row starts like this: a dump writes a line break within a value as \\n
                    server.stdin.write(line.replace(old.encode(), new.encode()) if line.startswith((b"CREATE DATABASE ", b"USE `")) else line)
                server.stdin.close()
            except BrokenPipeError:  # the client stopped at an error, which its output names
                pass
            code = server.wait()
        words.seek(0)
        if code:
            raise Failed("the server stopped at: %s" % words.read().decode(errors="replace").strip())


def rows_of(database):
    """Return the digest of a database's rows."""
    with open(os.devnull, "wb") as nowhere:
        return dump_into(database, nowhere)
