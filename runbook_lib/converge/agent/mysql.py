# Kind: mysql (database, account, schema, leftovers, report, used, recreate, dump, fetch, trial, restore, administrator). Only what follows the marker is sent.
from .core import *  # noqa: F403
from .mysql_backup import *  # noqa: F403

# --- agent ---
fcntl, re = Later("fcntl"), Later("re")

DATA = "/var/lib/mysql"
SYSTEM = ("mysql", "sys", "information_schema", "performance_schema")
PRIVILEGES = ("Select", "Insert", "Update", "Delete", "Create", "Drop", "Grant", "References", "Index", "Alter", "Create_tmp_table",
              "Lock_tables", "Create_view", "Show_view", "Create_routine", "Alter_routine", "Execute", "Event", "Trigger")  # fmt: skip
# Facts 2.2: the scripts contain `TIMESTAMP NOT NULL DEFAULT 0`, which these two modes reject.
RELAXED = "SET SESSION sql_mode = REPLACE(REPLACE(@@SESSION.sql_mode, 'NO_ZERO_IN_DATE', ''), 'NO_ZERO_DATE', '');"
# Records which script was loaded and whether it completed. A count of tables would miss indexes and rows at the end of a script.
LEDGER = (
    "CREATE DATABASE IF NOT EXISTS runbook; CREATE TABLE IF NOT EXISTS runbook.schema_load "
    "(name VARCHAR(64) PRIMARY KEY, script CHAR(64) NOT NULL, state VARCHAR(16) NOT NULL, at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);"
)
LEDGER_ROWS = (  # none where there is no ledger yet
    "SELECT IF(COUNT(*), 'SELECT ''ledger'', name, script, state FROM runbook.schema_load', 'DO 0') INTO @rows FROM information_schema.tables "
    "WHERE table_schema = 'runbook' AND table_name = 'schema_load'; PREPARE ledger FROM @rows; EXECUTE ledger;"
)
LEDGER_STATE = "REPLACE INTO runbook.schema_load (name, script, state) VALUES ('%s', '%s', '%s');"


def sql(text, database=None):
    """Run statements as root over the socket and return the rows as lists of text.

    Raises Failed at the first error; its message names the line.
    """
    command = [
        client("mysql"),
        "--no-defaults",
        "--user=root",
        "--protocol=socket",
        "--batch",
        "--skip-column-names",
        "--default-character-set=utf8mb4",
    ]
    out = run(command + ([database] if database else []), stdin=text if isinstance(text, bytes) else text.encode())
    return [line.split("\t") for line in out.splitlines()]


def quoted(text):
    return "'%s'" % text.replace("\\", "\\\\").replace("'", "''")


def pattern(database):
    """Return the database's name for GRANT, where an unescaped underscore is a wildcard: WSO2_USER_DB would match WSO2xUSER_DB too."""
    return database.replace("_", "\\_")


def native(password):
    """Return the hash that mysql_native_password stores for this password."""
    return "*" + hashlib.sha1(hashlib.sha1(password.encode()).digest()).hexdigest().upper()


def sha_crypt(password, salt, rounds):
    """Return the 43 characters that caching_sha2_password stores after its salt: SHA-256 crypt (Drepper) with a binary salt."""
    key, length = password, len(password)
    inner = hashlib.sha256(key + salt + key).digest()
    mixed = hashlib.sha256(key + salt + (inner * (length // 32 + 1))[:length])
    bits = length
    while bits:
        mixed.update(inner if bits & 1 else key)
        bits >>= 1
    digest = mixed.digest()
    spread_key = (hashlib.sha256(key * length).digest() * (length // 32 + 1))[:length]
    spread_salt = (hashlib.sha256(salt * (16 + digest[0])).digest() * (len(salt) // 32 + 1))[: len(salt)]
    for turn in range(rounds):
        step = hashlib.sha256(spread_key if turn & 1 else digest)
        if turn % 3:
            step.update(spread_salt)
        if turn % 7:
            step.update(spread_key)
        step.update(digest if turn & 1 else spread_key)
        digest = step.digest()
    order = [
        (0, 10, 20),
        (21, 1, 11),
        (12, 22, 2),
        (3, 13, 23),
        (24, 4, 14),
        (15, 25, 5),
        (6, 16, 26),
        (27, 7, 17),
        (18, 28, 8),
        (9, 19, 29),
    ]
    alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    text = ""
    for value, width in [(digest[a] << 16 | digest[b] << 8 | digest[c], 4) for a, b, c in order] + [(digest[31] << 8 | digest[30], 3)]:
        for _ in range(width):
            text += alphabet[value & 63]
            value >>= 6
    return text


def password_matches(plugin, stored, password):
    """Return whether `stored`, the authentication_string of mysql.user as bytes, is of this password. False also for any other plugin."""
    if plugin == "mysql_native_password":
        return stored.decode("latin-1").upper() == native(password)
    match = re.fullmatch(rb"\$A\$([0-9A-Fa-f]{3})\$(.{20})(.{43})", stored, re.DOTALL)
    if plugin == "caching_sha2_password" and match:
        return match.group(3).decode() == sha_crypt(password.encode(), match.group(2), int(match.group(1), 16) * 1000)
    return False


class Server:
    """The state of the whole server, read in one session. Raises Failed when no server answers or it refuses root."""

    def __init__(self):
        privileges = ", ".join("%s_priv" % name for name in PRIVILEGES)
        rows = sql(
            "SELECT 'server', VERSION(), @@version_comment, @@GLOBAL.sql_mode, @@bind_address, @@port, @@log_bin;"
            "SELECT 'native', plugin_status FROM information_schema.plugins WHERE plugin_name = 'mysql_native_password';"
            "SELECT 'database', schema_name, default_character_set_name, default_collation_name FROM information_schema.schemata;"
            "SELECT 'table', table_schema, table_name, IFNULL(table_collation, '') FROM information_schema.tables WHERE table_type = 'BASE TABLE';"
            "SELECT 'account', user, host, plugin, HEX(authentication_string) FROM mysql.user;"
            "SELECT 'global', grantee, privilege_type FROM information_schema.user_privileges;"
            "SELECT 'grant', user, host, db, CONCAT_WS(',', %s) FROM mysql.db;%s" % (privileges, LEDGER_ROWS)
        )
        table = {}
        for tag, *values in rows:
            table.setdefault(tag, []).append(values)
        self.version, self.comment, self.sql_mode, self.bind, self.port, self.log_bin = table["server"][0]
        self.mariadb = "mariadb" in (self.version + self.comment).lower()
        self.plugin = "mysql_native_password" if self.mariadb or ["ACTIVE"] in table.get("native", []) else "caching_sha2_password"
        self.databases = {name: (charset, collation) for name, charset, collation in table["database"]}
        self.tables = {}
        for database, name, collation in table["table"]:
            self.tables.setdefault(database, {})[name] = collation
        self.accounts = {(user, host): (plugin, bytes.fromhex(stored)) for user, host, plugin, stored in table["account"]}
        self.globals = {(grantee, privilege) for grantee, privilege in table["global"]}
        self.grants = {}
        for user, host, database, flags in table.get("grant", []):
            held = [name for name, flag in zip(PRIVILEGES, flags.split(",")) if flag == "Y"]
            self.grants.setdefault((user, host), {})[database.replace("\\\\", "\\")] = sorted(held)
        self.ledger = {name: (script, state) for name, script, state in table.get("ledger", [])}


class Asked:
    """The facts of each kind of resource, by its `what`. Each method returns the fact for one question."""

    @staticmethod
    def database(r, server):
        charset, collation = server.databases.get(r["name"], (None, None))
        return {"exists": charset is not None, "charset": charset, "collation": collation}

    @staticmethod
    def account(r, server):
        who = (r["user"], r["host"])
        if who not in server.accounts:
            return {"exists": False}
        plugin, stored = server.accounts[who]
        grantee = "'%s'@'%s'" % who
        everywhere = sorted(privilege for name, privilege in server.globals if name == grantee and privilege != "USAGE")
        grants = server.grants.get(who, {})
        wanted = {pattern(r["database"]): sorted(r["privileges"])}
        return {
            "exists": True, "plugin": plugin, "wanted_plugin": server.plugin, "password": password_matches(plugin, stored, r["password"]),
            "grants": grants == wanted and not everywhere, "extra": everywhere + sorted(set(grants) - set(wanted)),
        }  # fmt: skip

    @staticmethod
    def schema(r, server):
        there = server.tables.get(r["name"], {})
        script, state = server.ledger.get(r["name"], (None, None))
        missing = [name for name in r["tables"] if name not in there]
        return {
            "exists": r["name"] in server.databases, "tables": len(there), "missing": missing, "state": state, "script": script,
            "charsets": sorted({collation.split("_")[0] for collation in there.values()}),
        }  # fmt: skip

    @staticmethod
    def leftovers(r, server):
        remote_root = [who for who in server.accounts if who[0] == "root" and who[1] not in ("localhost", "127.0.0.1", "::1")]
        anonymous = [who for who in server.accounts if not who[0]]
        elsewhere = [who for who in server.accounts if who[0] in r["users"] and who[1] not in r["hosts"]]
        return {
            "accounts": sorted("'%s'@'%s'" % who for who in anonymous + remote_root + elsewhere),
            "test": "test" in server.databases,
        }

    @staticmethod
    def used(r, server):
        """Return by database whether its table r["tables"][name] has a row, and the state of its last load ("" where none is noted); the server's kind."""
        there = [(name, table) for name, table in r["tables"].items() if table in server.tables.get(name, {})]
        rows = sql("".join("SELECT '%s', EXISTS (SELECT 1 FROM `%s`.%s);" % (name, name, table) for name, table in there)) if there else []
        used = {name: [name, "1"] in rows for name in r["tables"]}
        return {"used": used, "states": {name: server.ledger.get(name, ("", ""))[1] for name in r["tables"]}, "mariadb": server.mariadb}

    @staticmethod
    def report(r, server):
        """Return what checks need: the server's settings, the number of tables by database, and the number of duplicate registry rows,
        which a simultaneous first boot of several nodes leaves behind (golden run 7).
        """
        pairs = {}
        for database in r["registries"]:
            if "REG_RESOURCE" in server.tables.get(database, {}):
                twice = "SELECT REG_PATH_ID, REG_NAME, REG_TENANT_ID FROM REG_RESOURCE GROUP BY 1, 2, 3 HAVING COUNT(*) > 1"
                pairs[database] = int(sql("SELECT COUNT(*) FROM (%s) twice;" % twice, database)[0][0])
        listening = subprocess.run(["ss", "-Hltn", "sport = :%s" % server.port], capture_output=True, text=True).stdout
        return {
            "version": server.version, "comment": server.comment, "mariadb": server.mariadb, "sql_mode": server.sql_mode,
            "plugin": server.plugin, "log_bin": server.log_bin, "accounts": sorted(server.accounts),
            "listening": sorted(line.split()[3] for line in listening.splitlines() if line),
            "tables": {name: len(server.tables.get(name, {})) for name in server.databases if name not in SYSTEM}, "duplicates": pairs,
        }  # fmt: skip


def load(r):
    """Load the whole script into an empty database. The ledger has the state `loading` until the last statement has completed.

    Raises Failed when a statement fails or a table is missing afterwards.
    """
    script = unpack(r["script"])
    digest = hashlib.sha256(script).hexdigest()
    sql(LEDGER + LEDGER_STATE % (r["name"], digest, "loading"))
    try:
        sql(RELAXED.encode() + b" " + script, r["name"])  # on the script's first line, so that line numbers in errors are those of the script
    except Failed as error:
        raise Failed("the script %s failed in database %s and left it half loaded: %s" % (r["origin"], r["name"], str(error).split(": ", 1)[-1]))
    found = {name for (name,) in sql("SELECT table_name FROM information_schema.tables WHERE table_schema = %s;" % quoted(r["name"]))}
    missing = [name for name in r["tables"] if name not in found]
    if missing:
        raise Failed("database %s is half loaded: %d tables of %s are missing, such as %s" % (r["name"], len(missing), r["origin"], missing[0]))
    sql(LEDGER_STATE % (r["name"], digest, "loaded"))


def refuse_without_room(path):
    """Raise Failed when the dump surely has no room beside the databases: the server that it would fill up may be in use."""
    folder = sql("SELECT @@datadir;")[0][0]
    with open(path, "rb") as dump:
        dump.seek(-4, os.SEEK_END)
        script = int.from_bytes(dump.read(), "little")  # gzip's own count, which begins anew at each 4 GiB
    least, free = max(os.path.getsize(path), script // 2), shutil.disk_usage(folder).free  # half: documents are twice as long there, in hex
    if free < least:
        numbers = (path, least >> 20, folder, free >> 20)
        raise Failed("the dump %s takes %d MiB at least, and %s has %d MiB free to try it: nothing was dropped. cloud.disk_gb makes the disk larger" % numbers)


class Ordered:
    """The actions, by `what`. Each is safe to repeat."""

    @staticmethod
    def database(r):
        verb = "ALTER DATABASE" if r["exists"] else "CREATE DATABASE"
        sql("%s `%s` CHARACTER SET %s COLLATE %s;" % (verb, r["name"], r["charset"], r["collation"]))

    @staticmethod
    def account(r):
        server = Server()
        who = "%s@%s" % (quoted(r["user"]), quoted(r["host"]))
        if server.mariadb:
            identified = "IDENTIFIED BY PASSWORD '%s'" % native(r["password"])
        elif server.plugin == "mysql_native_password":
            identified = "IDENTIFIED WITH mysql_native_password AS '%s'" % native(r["password"])
        else:  # MySQL 8.4 and newer have the old plugin switched off or removed
            identified = "IDENTIFIED WITH caching_sha2_password BY %s" % quoted(r["password"])
        privileges = ", ".join(name.upper() for name in r["privileges"])
        sql(
            "CREATE USER IF NOT EXISTS {0} {1}; ALTER USER {0} {1}; REVOKE ALL PRIVILEGES, GRANT OPTION FROM {0}; GRANT {2} ON `{3}`.* TO {0};".format(
                who, identified, privileges, pattern(r["database"])
            )
        )

    @staticmethod
    def schema(r):
        fact = Asked.schema(r, Server())
        if fact["state"] == "restoring":  # its data is in a dump; an empty schema instead would look complete
            raise Failed("a restore of database %s was cut short: ./runbook restore PARAMS again, or deployment.mysql.restore(dump, confirm=…)" % r["name"])
        if fact["tables"] and fact["state"] == "loading":  # the agent's own load was interrupted, so no product has used this database
            Ordered.recreate(r)
        elif fact["tables"]:
            raise Failed(
                "database %s is not empty and not as it is wanted; it is never overwritten on its own: "
                "deployment.mysql.recreate(name, confirm=…) dumps it and makes it anew" % r["name"]
            )
        else:
            load(r)

    @staticmethod
    def leftovers(r):
        fact = Asked.leftovers(r, Server())
        sql(
            "".join("DROP USER %s;" % who for who in fact["accounts"])
            + "DROP DATABASE IF EXISTS test; DELETE FROM mysql.db WHERE Db LIKE 'test%'; FLUSH PRIVILEGES;"
        )

    @staticmethod
    def recreate(r):
        """Dump, drop, create and load the database. Grants are stored elsewhere and stay when the database is dropped."""
        if r["name"] in Server().databases:
            keep(r["name"])
            sql("DROP DATABASE `%s`;" % r["name"])
        sql("CREATE DATABASE `%s` CHARACTER SET %s COLLATE %s;" % (r["name"], r["charset"], r["collation"]))
        load(r)

    @staticmethod
    def dump(r):
        keep(r["name"], r.get("to"))

    @staticmethod
    def fetch(r):
        """Fetch a dump from the store and look through it. Raises Failed, and keeps nothing, when it is not what its manifest says."""
        path = place_of(r["name"])
        fetch(r["from"], path, r["sha256"])
        try:
            rows = examined(path, r["name"])
            if r["rows"] and rows != r["rows"]:
                raise Failed("the dump of %s holds other rows than its manifest says, nothing was dropped" % r["name"])
        except Failed:
            os.unlink(path)
            raise
        say(progress=1, of=1, doing="dump of %s fetched" % r["name"], fetched=path, rows=rows)

    @staticmethod
    def administrator(r):
        """Give the administrator of a restored user database this deployment's password (user-mgt.xml: PasswordDigest SHA-256, StoreSaltedPassword)."""
        who = "UM_USER_NAME = %s AND UM_TENANT_ID = -1234" % quoted(r["user"])
        found = sql("SELECT UM_USER_PASSWORD, IFNULL(UM_SALT_VALUE, '') FROM UM_USER WHERE %s;" % who, r["name"])
        for stored, salt in found:
            wanted = binascii.b2a_base64(hashlib.sha256((r["password"] + salt).encode()).digest(), newline=False).decode()
            if stored != wanted:
                sql("UPDATE UM_USER SET UM_USER_PASSWORD = %s WHERE %s;" % (quoted(wanted), who), r["name"])
        say(progress=1, of=1, doing="the administrator has this deployment's password", administrators=len(found))

    @staticmethod
    def trial(r):
        """Load the dump into a temporary database, which goes again; return the digest of its rows. The product may serve meanwhile.

        Raises Failed when it is incomplete, belongs to another database, has no room or does not load, or loads with other rows than it holds.
        """
        wanted = examined(r["dump"], r["name"])
        refuse_without_room(r["dump"])
        beside = r["name"] + "_beside"
        sql("DROP DATABASE IF EXISTS `%s`;" % beside)
        try:
            pour(r["dump"], r["name"], beside)
            found = rows_of(beside)
        except Failed as error:
            raise Failed("the dump %s does not load, nothing was dropped: %s" % (r["dump"], error))
        finally:
            sql("DROP DATABASE IF EXISTS `%s`;" % beside)
        if found != wanted:
            raise Failed("the dump %s loads with other rows than it holds (%s, not %s), nothing was dropped" % (r["dump"], found, wanted))
        return wanted

    @staticmethod
    def restore(r):
        """Replace the database by a dump, after dumping the present one. A dump that was not tried (r["tried"]) is tried before anything is dropped.

        Raises Failed as `trial`, and when the rows in the database differ afterwards from those in the dump.
        """
        wanted = examined(r["dump"], r["name"]) if r["tried"] else Ordered.trial(r)
        server = Server()
        if r["name"] in server.databases:
            keep(r["name"])
        script = server.ledger.get(r["name"], ("",))[0]
        sql(LEDGER + LEDGER_STATE % (r["name"], script, "restoring") + "DROP DATABASE IF EXISTS `%s`;" % r["name"])
        pour(r["dump"], r["name"], r["name"])
        found = rows_of(r["name"])
        if found != wanted:
            raise Failed("database %s does not hold the rows of %s: %s, not %s" % (r["name"], r["dump"], found, wanted))
        sql(LEDGER_STATE % (r["name"], script, "loaded"))
        say(progress=1, of=1, doing="%s restored" % r["name"], restored=r["dump"], rows=found, database=r["name"])


@handles("mysql")
class MysqlHandler:
    @staticmethod
    def probe(resources):
        """Return the facts of all resources from one session; when no server answers, each fact says so. Raises Failed when the server refuses root."""
        try:
            server = Server()
        except Failed as error:
            if "Access denied" in str(error):  # the server answers but nothing can be read from it
                raise
            folders = sorted(os.listdir(DATA)) if os.path.isdir(DATA) else []  # of a server that is there and does not run
            return [{"server": None, "why": str(error).splitlines()[-1], "folders": folders} for _ in resources]
        return [{"server": server.version, **getattr(Asked, r["what"])(r, server)} for r in resources]

    @staticmethod
    def apply(resources):
        """Apply the resources under a lock: a load may still be running whose operator lost the connection."""
        os.makedirs("/run/runbook", exist_ok=True)
        with open("/run/runbook/mysql.lock", "w") as lock:
            for _ in alive(iter(str, None), "another load is running"):  # for ever: that load has an end
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(0.1)
            for done, r in enumerate(resources):
                say(progress=done, of=len(resources), doing=r["key"])
                getattr(Ordered, r["what"])(r)
