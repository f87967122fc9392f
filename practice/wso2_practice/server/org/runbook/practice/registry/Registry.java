package org.runbook.practice.registry;

import java.sql.SQLException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.runbook.practice.BootFailure;
import org.runbook.practice.Literals;
import org.runbook.practice.Log;
import org.runbook.practice.cluster.Cluster;
import org.runbook.practice.conf.Settings;
import org.runbook.practice.conf.Xml;
import org.runbook.practice.db.DataSources;
import org.runbook.practice.db.Schema;
import org.runbook.practice.db.Sql;
import org.w3c.dom.Element;

/** The registry as the applications see it: the local one, with the mounts of registry.xml in it (facts 1.4). */
public final class Registry {
    private static final String SERVICE = "org.wso2.carbon.registry.core.jdbc.EmbeddedRegistryService";
    private static final String COMPONENT = "org.wso2.carbon.registry.core.internal.RegistryCoreServiceComponent";

    /** A database behind a path: "" and "" for the local one. */
    private static final class Mount {
        private final String path;
        private final String target;
        private final RegistryStore store;
        private final boolean readOnly;
        private final String cacheId;

        Mount(String path, String target, RegistryStore store, boolean readOnly, String cacheId) {
            this.path = path;
            this.target = target;
            this.store = store;
            this.readOnly = readOnly;
            this.cacheId = cacheId;
        }

        public String path() {
            return path;
        }

        public String target() {
            return target;
        }

        public RegistryStore store() {
            return store;
        }

        public boolean readOnly() {
            return readOnly;
        }

        public String cacheId() {
            return cacheId;
        }

        String inside(String outside) {
            return path.isEmpty() ? outside : target + outside.substring(path.length());
        }
    }

    private static final class Cached {
        private final RegistryStore.Resource resource;
        private final long until;

        Cached(RegistryStore.Resource resource, long until) {
            this.resource = resource;
            this.until = until;
        }

        public RegistryStore.Resource resource() {
            return resource;
        }

        public long until() {
            return until;
        }
    }

    private final Settings settings;
    private final DataSources sources;
    private final Mount local;
    private final List<Mount> mounts = new ArrayList<>();
    private final Map<String, Cached> cache = new ConcurrentHashMap<>();
    private Cluster cluster;

    public Registry(Settings settings, DataSources sources) {
        this.settings = settings;
        this.sources = sources;
        String current = Xml.text(settings.registry, "currentDBConfig", "wso2registry");
        boolean readOnly = Xml.text(settings.registry, "readOnly", "false").equals("true");
        long start = System.currentTimeMillis();
        try {
            RegistryStore store = store(dataSourceOf(current));
            local = new Mount("", "", store, readOnly, null);
            for (String path : Literals.list("/_system/local", "/_system/config", "/_system/governance")) {
                store.putCollection(path);
            }
            Log.info(SERVICE, "Configured Registry in " + (System.currentTimeMillis() - start) + "ms");
            for (Element mount : Xml.all(settings.registry, "mount")) {
                add(mount);
            }
        } catch (SQLException e) {
            Log.fatal("org.wso2.carbon.registry.core.session.UserRegistry",
                    "Failed to add the root collection to the coreRegistry. " + e.getMessage(), e);
            Log.error(COMPONENT, "Failed to activate Registry Core bundle", e);
            throw new BootFailure("registry", e);
        }
        Log.info(COMPONENT, "Registry Mode    : " + (readOnly ? "READ-ONLY" : "READ-WRITE"));
    }

    private String dataSourceOf(String dbConfig) throws SQLException {
        Element found = Xml.first(settings.registry, "dbConfig[name=" + dbConfig + "]");
        if (found == null) {
            throw new SQLException("registry.xml has no dbConfig named '" + dbConfig + "'");
        }
        return Xml.text(found, "dataSource", "");
    }

    private RegistryStore store(String dataSource) throws SQLException {
        Sql sql = new Sql(sources.get(dataSource));
        if (settings.setup) {
            new Schema(settings).create(sql, "SELECT REG_PATH_ID FROM REG_PATH WHERE REG_PATH_ID = 0", "%s.sql");
        }
        RegistryStore store = new RegistryStore(sql);
        store.initialise();
        return store;
    }

    private void add(Element mount) throws SQLException {
        String path = mount.getAttribute("path");
        Element instance = Xml.all(settings.registry, "remoteInstance").stream()
                .filter(i -> Xml.text(i, "id", "").equals(Xml.text(mount, "instanceId", ""))).findFirst().orElse(null);
        if (instance == null) {
            Log.error(COMPONENT, "Unable to create remote mount " + path + ". No such remote instance: "
                    + Xml.text(mount, "instanceId", ""));
            return;
        }
        String overwrite = mount.getAttribute("overwrite");
        if (!overwrite.equals("true") && !overwrite.equals("virtual") && local.store.exists(path)) {
            Log.error(COMPONENT, "Unable to create remote mount. A resource already exists at the given location");
            return;
        }
        long start = System.currentTimeMillis();
        String dbConfig = Xml.text(instance, "dbConfig", "");
        String source = dataSourceOf(dbConfig);
        RegistryStore store = store(source);
        String target = Xml.text(mount, "targetPath", path);
        boolean readOnly = Xml.text(instance, "readOnly", "false").equals("true");
        boolean cached = Xml.text(instance, "enableCache", "false").equals("true");
        String cacheId = cached ? Xml.text(instance, "cacheId", sources.identity(source)) : null;
        if (!readOnly) {
            store.putCollection(target);
        }
        mounts.add(new Mount(path, target, store, readOnly, cacheId));
        Log.info(SERVICE, "Connected to mount at " + dbConfig + " in " + (System.currentTimeMillis() - start) + " ms");
    }

    /** From now on other nodes are told what changes, and tell us. */
    public void join(Cluster joined) {
        cluster = joined;
        joined.onMessage("registry-cache", cache::remove);
    }

    /** A resource, from the cache where its mount has one: up to the cache timeout old if nobody says otherwise. */
    public RegistryStore.Resource get(String path) throws SQLException {
        Mount mount = mountOf(path);
        if (mount.cacheId == null) {
            return mount.store.get(mount.inside(path));
        }
        String key = key(mount, path);
        Cached known = cache.get(key);
        if (known != null && known.until > System.currentTimeMillis()) {
            return known.resource;
        }
        RegistryStore.Resource read = mount.store.get(mount.inside(path));
        if (read != null) {
            cache.put(key, new Cached(read, System.currentTimeMillis() + settings.cacheMinutes() * 60_000L));
        }
        return read;
    }

    public boolean exists(String path) throws SQLException {
        Mount mount = mountOf(path);
        return mount.store.exists(mount.inside(path));
    }

    public void put(String path, String mediaType, String content, String user) throws SQLException {
        writable(path).put(mountOf(path).inside(path), mediaType, content, user);
        changed(path);
    }

    public void insert(String path, String mediaType, String content, String user) throws SQLException {
        writable(path).insert(mountOf(path).inside(path), mediaType, content, user);
        changed(path);
    }

    public void setProperty(String path, String name, String value, String user) throws SQLException {
        writable(path).setProperty(mountOf(path).inside(path), name, value, user);
        changed(path);
    }

    public void delete(String path) throws SQLException {
        writable(path).delete(mountOf(path).inside(path));
        changed(path);
    }

    /** Every resource of a media type below a path, straight from the database, under its outside path. */
    public Map<String, RegistryStore.Resource> withMediaType(String below, String pattern) throws SQLException {
        Mount mount = mountOf(below);
        Map<String, RegistryStore.Resource> found = new HashMap<>();
        for (RegistryStore.Resource resource : mount.store.withMediaType(pattern)) {
            if (resource.path().startsWith(mount.inside(below))) {
                found.put(below + resource.path().substring(mount.inside(below).length()), resource);
            }
        }
        return found;
    }

    /** The outside path of the resource with this id below a mount, or null. */
    public String pathOf(String below, String uuid) throws SQLException {
        Mount mount = mountOf(below);
        RegistryStore.Resource found = mount.store.withUuid(uuid);
        return found == null ? null : below + found.path().substring(mount.inside(below).length());
    }

    /** Whether the registry behind this path had no content when this node came to it. */
    public boolean isFresh(String path) {
        return mountOf(path).store.fresh;
    }

    public boolean isReadOnly(String path) {
        return mountOf(path).readOnly;
    }

    public boolean hasDuplicates(String path) throws SQLException {
        return mountOf(path).store.hasDuplicates();
    }

    private RegistryStore writable(String path) throws SQLException {
        Mount mount = mountOf(path);
        if (mount.readOnly) {
            throw new SQLException("Failed to update " + path + ": the mounted registry is read only");
        }
        return mount.store;
    }

    private void changed(String path) {
        Mount mount = mountOf(path);
        if (mount.cacheId != null) {
            cache.remove(key(mount, path));
            if (cluster != null) {
                cluster.send("registry-cache", key(mount, path));
            }
        }
    }

    /** Nodes drop each other's entries only when both spell the cacheId the same way. */
    private static String key(Mount mount, String path) {
        return mount.cacheId + " " + mount.inside(path);
    }

    private Mount mountOf(String path) {
        return mounts.stream().filter(m -> (path + "/").startsWith(m.path + "/")).findFirst().orElse(local);
    }
}
