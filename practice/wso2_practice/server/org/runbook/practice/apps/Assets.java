package org.runbook.practice.apps;

import java.io.IOException;
import java.sql.SQLException;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.runbook.practice.Literals;
import org.runbook.practice.Log;
import org.runbook.practice.Threads;
import org.runbook.practice.conf.Settings;
import org.runbook.practice.conf.Xml;
import org.runbook.practice.registry.Registry;
import org.runbook.practice.registry.RegistryStore;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.xml.sax.SAXException;

/**
 * Assets in the registry and this node's own index of them. Lists come from the index, which follows the shared
 * database with the delay of registry.xml; a single asset comes from the registry and its cache (facts 1.4).
 */
public final class Assets {
    private static final String BELOW = "/_system/governance";
    private static final String NAMESPACE = "http://www.wso2.org/governance/metadata";
    private static final Set<String> STORE_TYPES = Literals.set("gadget", "site", "ebook");
    static final Set<String> TYPES = Literals.set("restservice", "soapservice", "wsdl", "wadl", "schema", "policy", "swagger",
            "endpoint", "note", "server", "gadget", "site", "ebook");
    private static final Map<String, List<String>> SAMPLE = Literals.map("Created", Literals.list("In-Review"),
            "In-Review", Literals.list("Published", "Rejected"), "Rejected", Literals.list("In-Review"),
            "Published", Literals.list("Unpublished"), "Unpublished", Literals.list("Published", "Deprecated"));
    private static final Map<String, List<String>> SERVICE = Literals.map("Development", Literals.list("Testing"),
            "Testing", Literals.list("Development", "Production"), "Production", Literals.list("Testing", "Deprecated"));

    /** One asset: {@code fields} are the overview_… fields of its form. */
    static final class Asset {
        private final String id;
        private final String type;
        private final String path;
        private final String state;
        private final Map<String, String> fields;

        Asset(String id, String type, String path, String state, Map<String, String> fields) {
            this.id = id;
            this.type = type;
            this.path = path;
            this.state = state;
            this.fields = fields;
        }

        public String id() {
            return id;
        }

        public String type() {
            return type;
        }

        public String path() {
            return path;
        }

        public String state() {
            return state;
        }

        public Map<String, String> fields() {
            return fields;
        }

        Map<String, Object> json() {
            Map<String, Object> json = new LinkedHashMap<>();
            json.put("id", id);
            json.put("name", fields.get("overview_name"));
            json.put("version", fields.get("overview_version"));
            json.put("type", type);
            json.put("path", path);
            json.put("lifecycle", lifecycle(type));
            json.put("lifecycleState", state);
            json.put("attributes", fields);
            return json;
        }
    }

    private final Registry registry;
    private volatile Map<String, Asset> index = Literals.map();

    public Assets(Settings settings, Registry registry) {
        this.registry = registry;
        Element indexing = Xml.first(settings.registry, "indexingConfiguration");
        if (indexing == null || !Xml.text(indexing, "startIndexing", "true").equals("true")) {
            return;
        }
        long delay = 1000L * Integer.parseInt(Xml.text(indexing, "startingDelayInSeconds", "35"));
        long frequency = 1000L * Math.max(1, Integer.parseInt(Xml.text(indexing, "indexingFrequencyInSeconds", "3")));
        String marker = Xml.text(indexing, "lastAccessTimeLocation", "/_system/local/lastaccesstime");
        Threads.start("indexing", () -> {
            begin(marker, delay);
            while (true) {
                try {
                    refresh();
                } catch (SQLException | IOException e) {
                    Log.error("org.wso2.carbon.registry.indexing.ResourceSubmitter", "Could not index: " + e.getMessage());
                }
                Thread.sleep(frequency);
            }
        });
    }

    /** The first indexing of a node waits; a node that has an index on its disk lists from it at once. */
    private void begin(String marker, long delay) throws InterruptedException {
        try {
            boolean before = registry.exists(marker);
            if (!before) {
                registry.put(marker, "text/plain", String.valueOf(System.currentTimeMillis()), "wso2.system.user");
                Thread.sleep(delay);
            }
        } catch (SQLException e) {
            Thread.sleep(delay);
        }
    }

    private void refresh() throws SQLException, IOException {
        Map<String, Asset> fresh = new LinkedHashMap<>();
        for (Map.Entry<String, RegistryStore.Resource> entry
                : registry.withMediaType(BELOW, "application/vnd.wso2-%+xml").entrySet()) {
            Asset asset = read(entry.getKey(), entry.getValue());
            fresh.put(asset.id, asset);
        }
        index = fresh;
    }

    Collection<Asset> indexed() {
        return index.values();
    }

    /** The assets that the Store shows of a type (null: of all): published ones, and services in any state. */
    List<Asset> visible(String type, List<?> states) {
        return index.values().stream().filter(a -> type == null || a.type.equals(type))
                .filter(a -> !STORE_TYPES.contains(a.type) || states.contains(a.state)).collect(Collectors.toList());
    }

    Asset create(String type, Map<String, String> fields, String user) throws SQLException, IOException {
        String path = BELOW + "/" + type + "s/" + fields.getOrDefault("overview_provider", user) + "/"
                + fields.getOrDefault("overview_name", "") + "/" + fields.getOrDefault("overview_version", "1.0.0");
        if (fields.getOrDefault("overview_name", "").trim().isEmpty() || path.contains("..") || registry.exists(path)) {
            return null;
        }
        registry.insert(path, "application/vnd.wso2-" + type + "+xml", metadata(fields), user);
        registry.setProperty(path, "registry.LC.name", lifecycle(type), user);
        registry.setProperty(path, stateProperty(type), STORE_TYPES.contains(type) ? "Created" : "Development", user);
        return read(path, registry.get(path));
    }

    /** The asset of that id as the registry (or its cache) has it, or null. */
    Asset get(String id) throws SQLException, IOException {
        Asset known = index.get(id);
        String path = known == null ? registry.pathOf(BELOW, id) : known.path;
        RegistryStore.Resource resource = path == null ? null : registry.get(path);
        return resource == null ? null : read(path, resource);
    }

    void update(Asset asset, Map<String, String> fields, String user) throws SQLException {
        Map<String, String> all = new LinkedHashMap<>(asset.fields);
        all.putAll(fields);
        registry.put(asset.path, "application/vnd.wso2-" + asset.type + "+xml", metadata(all), user);
    }

    /** Moves an asset one step along its lifecycle; false where that step does not exist. */
    boolean move(Asset asset, String next, String user) throws SQLException {
        Map<String, List<String>> lifecycle = STORE_TYPES.contains(asset.type) ? SAMPLE : SERVICE;
        for (String step : lifecycle.getOrDefault(asset.state, Literals.list())) {
            if (step.equalsIgnoreCase(next)) {
                registry.setProperty(asset.path, stateProperty(asset.type), step, user);
                return true;
            }
        }
        return false;
    }

    void delete(Asset asset) throws SQLException {
        registry.delete(asset.path);
    }

    private static String lifecycle(String type) {
        return STORE_TYPES.contains(type) ? "SampleLifeCycle2" : "ServiceLifeCycle";
    }

    private static String stateProperty(String type) {
        return "registry.lifecycle." + lifecycle(type) + ".state";
    }

    private static Asset read(String path, RegistryStore.Resource resource) throws IOException {
        String media = resource.mediaType();
        String type = media.substring("application/vnd.wso2-".length(), media.length() - "+xml".length());
        Map<String, String> fields = new LinkedHashMap<>();
        try {
            for (Element field : Xml.all(Xml.parse(resource.content()).getDocumentElement(), "overview/field")) {
                fields.put(field.getAttribute("name"), field.getTextContent());
            }
        } catch (SAXException e) {
            throw new IOException(path, e);
        }
        return new Asset(resource.uuid(), type, path, resource.properties().get(stateProperty(type)), fields);
    }

    private static String metadata(Map<String, String> fields) {
        Document document = Xml.empty();
        Element root = document.createElementNS(NAMESPACE, "metadata");
        document.appendChild(root);
        Element overview = document.createElementNS(NAMESPACE, "overview");
        root.appendChild(overview);
        fields.forEach((name, value) -> {
            Element field = document.createElementNS(NAMESPACE, "field");
            field.setAttribute("name", name);
            field.setTextContent(value);
            overview.appendChild(field);
        });
        return Xml.write(root);
    }
}
