package org.runbook.practice.registry;

import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.sql.Timestamp;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.runbook.practice.db.Sql;

/** One registry database: resources, collections and properties in the REG_* tables. */
public final class RegistryStore {
    /** A resource as read: content is null for a collection. */
    public static final class Resource {
        private final String path;
        private final String uuid;
        private final String mediaType;
        private final String content;
        private final Map<String, String> properties;

        public Resource(String path, String uuid, String mediaType, String content, Map<String, String> properties) {
            this.path = path;
            this.uuid = uuid;
            this.mediaType = mediaType;
            this.content = content;
            this.properties = properties;
        }

        public String path() {
            return path;
        }

        public String uuid() {
            return uuid;
        }

        public String mediaType() {
            return mediaType;
        }

        public String content() {
            return content;
        }

        public Map<String, String> properties() {
            return properties;
        }
    }

    static final int TENANT = -1234;
    private static final String SELECT = "SELECT r.REG_VERSION, p.REG_PATH_VALUE, r.REG_NAME, r.REG_UUID,"
            + " r.REG_MEDIA_TYPE, c.REG_CONTENT_DATA FROM REG_RESOURCE r"
            + " JOIN REG_PATH p ON p.REG_PATH_ID = r.REG_PATH_ID AND p.REG_TENANT_ID = r.REG_TENANT_ID"
            + " LEFT JOIN REG_CONTENT c ON c.REG_CONTENT_ID = r.REG_CONTENT_ID AND c.REG_TENANT_ID = r.REG_TENANT_ID"
            + " WHERE r.REG_TENANT_ID = " + TENANT;
    private final Sql sql;
    /** Whether there was no root collection when this node first looked, before it waited for the lock. */
    boolean fresh;

    RegistryStore(Sql sql) {
        this.sql = sql;
    }

    /** Makes the root collection, one node of the cluster at a time. */
    void initialise() throws SQLException {
        fresh = !exists("/");
        ClusterLock lock = new ClusterLock(sql);
        lock.acquire();
        try {
            if (!exists("/")) {
                putCollection("/");
            }
        } finally {
            lock.release();
        }
    }

    boolean exists(String path) throws SQLException {
        return sql.exists("SELECT 1 FROM REG_PATH WHERE REG_PATH_VALUE = ? AND REG_TENANT_ID = ?", path, TENANT)
                || version(path) != null;
    }

    Resource get(String path) throws SQLException {
        List<Resource> found = read(" AND p.REG_PATH_VALUE = ? AND r.REG_NAME = ? ORDER BY r.REG_VERSION",
                parent(path), name(path));
        return found.isEmpty() ? null : found.get(0);
    }

    /** Every resource of a media type, wherever it lies: what the indexer asks. */
    List<Resource> withMediaType(String pattern) throws SQLException {
        return read(" AND r.REG_MEDIA_TYPE LIKE ? ORDER BY r.REG_VERSION", pattern);
    }

    Resource withUuid(String uuid) throws SQLException {
        List<Resource> found = read(" AND r.REG_UUID = ?", uuid);
        return found.isEmpty() ? null : found.get(0);
    }

    private List<Resource> read(String where, Object... values) throws SQLException {
        return sql.query(row -> {
            byte[] content = row.getBytes(6);
            String folder = row.getString(2);
            return new Resource((folder.equals("/") ? "" : folder) + "/" + row.getString(3), row.getString(4),
                    row.getString(5), content == null ? null : new String(content, StandardCharsets.UTF_8),
                    properties(row.getLong(1)));
        }, SELECT + where, values);
    }

    private Map<String, String> properties(long version) throws SQLException {
        Map<String, String> found = new HashMap<>();
        sql.query(row -> found.put(row.getString(1), row.getString(2)), "SELECT p.REG_NAME, p.REG_VALUE"
                + " FROM REG_PROPERTY p JOIN REG_RESOURCE_PROPERTY r ON r.REG_PROPERTY_ID = p.REG_ID"
                + " AND r.REG_TENANT_ID = p.REG_TENANT_ID WHERE r.REG_VERSION = ? AND p.REG_TENANT_ID = " + TENANT,
                version);
        return found;
    }

    /** Writes a resource: a new one, or the content of the one that is there. */
    void put(String path, String mediaType, String content, String user) throws SQLException {
        Long version = version(path);
        if (version == null) {
            insert(path, mediaType, content, user);
            return;
        }
        long contentId = addContent(content);
        sql.update("UPDATE REG_RESOURCE SET REG_CONTENT_ID = ?, REG_LAST_UPDATOR = ?, REG_LAST_UPDATED_TIME = ?"
                + " WHERE REG_VERSION = ? AND REG_TENANT_ID = ?", contentId, user, now(), version, TENANT);
    }

    /** Inserts without a look at what is there; who wants one row looks before (two nodes may both have looked). */
    void insert(String path, String mediaType, String content, String user) throws SQLException {
        long folder = putCollection(parent(path));
        sql.insert("INSERT INTO REG_RESOURCE (REG_PATH_ID, REG_NAME, REG_MEDIA_TYPE, REG_CREATOR, REG_CREATED_TIME,"
                + " REG_LAST_UPDATOR, REG_LAST_UPDATED_TIME, REG_CONTENT_ID, REG_TENANT_ID, REG_UUID)"
                + " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", folder, name(path), mediaType, user, now(), user, now(),
                addContent(content), TENANT, UUID.randomUUID().toString());
    }

    private long addContent(String content) throws SQLException {
        return sql.insert("INSERT INTO REG_CONTENT (REG_CONTENT_DATA, REG_TENANT_ID) VALUES (?, ?)",
                content.getBytes(StandardCharsets.UTF_8), TENANT);
    }

    void setProperty(String path, String name, String value, String user) throws SQLException {
        Long version = version(path);
        if (version == null) {
            throw new SQLException("Resource does not exist at path " + path);
        }
        List<Long> ids = sql.query(row -> row.getLong(1), "SELECT p.REG_ID FROM REG_PROPERTY p"
                + " JOIN REG_RESOURCE_PROPERTY r ON r.REG_PROPERTY_ID = p.REG_ID AND r.REG_TENANT_ID = p.REG_TENANT_ID"
                + " WHERE r.REG_VERSION = ? AND p.REG_NAME = ? AND p.REG_TENANT_ID = ?", version, name, TENANT);
        if (ids.isEmpty()) {
            long id = sql.insert("INSERT INTO REG_PROPERTY (REG_NAME, REG_VALUE, REG_TENANT_ID) VALUES (?, ?, ?)",
                    name, value, TENANT);
            sql.update("INSERT INTO REG_RESOURCE_PROPERTY (REG_PROPERTY_ID, REG_VERSION, REG_TENANT_ID)"
                    + " VALUES (?, ?, ?)", id, version, TENANT);
        } else {
            sql.update("UPDATE REG_PROPERTY SET REG_VALUE = ? WHERE REG_ID = ? AND REG_TENANT_ID = ?",
                    value, ids.get(0), TENANT);
        }
        sql.update("UPDATE REG_RESOURCE SET REG_LAST_UPDATOR = ?, REG_LAST_UPDATED_TIME = ? WHERE REG_VERSION = ?"
                + " AND REG_TENANT_ID = ?", user, now(), version, TENANT);
    }

    void delete(String path) throws SQLException {
        Long version = version(path);
        if (version != null) {
            sql.update("DELETE FROM REG_RESOURCE_PROPERTY WHERE REG_VERSION = ? AND REG_TENANT_ID = ?", version, TENANT);
            sql.update("DELETE FROM REG_RESOURCE WHERE REG_VERSION = ? AND REG_TENANT_ID = ?", version, TENANT);
        }
    }

    /** Makes a collection and those above it; returns its path id. */
    long putCollection(String path) throws SQLException {
        Long known = pathId(path);
        if (known != null) {
            return known;
        }
        long above = path.equals("/") ? 0 : putCollection(parent(path));
        try {
            long id = sql.insert("INSERT INTO REG_PATH (REG_PATH_VALUE, REG_PATH_PARENT_ID, REG_TENANT_ID)"
                    + " VALUES (?, ?, ?)", path, above, TENANT);
            sql.insert("INSERT INTO REG_RESOURCE (REG_PATH_ID, REG_CREATOR, REG_CREATED_TIME, REG_LAST_UPDATOR,"
                    + " REG_LAST_UPDATED_TIME, REG_TENANT_ID, REG_UUID) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    id, "wso2.system.user", now(), "wso2.system.user", now(), TENANT, UUID.randomUUID().toString());
            return id;
        } catch (SQLException e) {
            Long other = pathId(path); // another node made it in the meantime: paths are unique, resources are not
            if (other == null) {
                throw e;
            }
            return other;
        }
    }

    /** Whether a path holds the same name twice: what two first boots at once leave behind (golden-run 7). */
    boolean hasDuplicates() throws SQLException {
        return sql.exists("SELECT REG_PATH_ID FROM REG_RESOURCE WHERE REG_NAME IS NOT NULL AND REG_TENANT_ID = ?"
                + " GROUP BY REG_PATH_ID, REG_NAME HAVING COUNT(*) > 1", TENANT);
    }

    private Long pathId(String path) throws SQLException {
        List<Long> ids = sql.query(row -> row.getLong(1),
                "SELECT REG_PATH_ID FROM REG_PATH WHERE REG_PATH_VALUE = ? AND REG_TENANT_ID = ?", path, TENANT);
        return ids.isEmpty() ? null : ids.get(0);
    }

    private Long version(String path) throws SQLException {
        List<Long> ids = sql.query(row -> row.getLong(1), "SELECT r.REG_VERSION FROM REG_RESOURCE r"
                + " JOIN REG_PATH p ON p.REG_PATH_ID = r.REG_PATH_ID AND p.REG_TENANT_ID = r.REG_TENANT_ID"
                + " WHERE p.REG_PATH_VALUE = ? AND r.REG_NAME = ? AND r.REG_TENANT_ID = ? ORDER BY r.REG_VERSION",
                parent(path), name(path), TENANT);
        return ids.isEmpty() ? null : ids.get(0);
    }

    static String parent(String path) {
        int slash = path.lastIndexOf('/');
        return slash <= 0 ? "/" : path.substring(0, slash);
    }

    public static String name(String path) {
        return path.substring(path.lastIndexOf('/') + 1);
    }

    private static Timestamp now() {
        return Timestamp.from(Instant.now());
    }
}
