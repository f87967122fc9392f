package org.runbook.practice.cluster;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import org.runbook.practice.Literals;
import org.runbook.practice.conf.Json;

/** A map of which every member of the cluster domain holds a copy: Carbon's caches are such maps (facts 3.9). */
public final class SharedMap {
    private static final int LIMIT = 20_000;
    final String name;
    private final Cluster cluster;
    private final Map<String, Map<String, Object>> entries = Collections.synchronizedMap(
            new LinkedHashMap<String, Map<String, Object>>() {
        @Override
        protected boolean removeEldestEntry(Map.Entry<String, Map<String, Object>> eldest) {
            return size() > LIMIT;
        }
    });

    SharedMap(String name, Cluster cluster) {
        this.name = name;
        this.cluster = cluster;
        cluster.onMessage("map " + name, this::receive);
    }

    public Map<String, Object> get(String key) {
        return key == null ? null : entries.get(key);
    }

    public void put(String key, Map<String, Object> value) {
        entries.put(key, value);
        cluster.send("map " + name, Json.write(Literals.map("key", key, "value", value)));
    }

    public void remove(String key) {
        entries.remove(key);
        cluster.send("map " + name, Json.write(Literals.map("key", key)));
    }

    private void receive(String body) {
        Map<String, Object> change = Json.map(Json.parse(body));
        String key = String.valueOf(change.get("key"));
        if (change.containsKey("value")) {
            entries.put(key, Json.map(change.get("value")));
        } else {
            entries.remove(key);
        }
    }

    public Map<String, Object> copy() {
        synchronized (entries) {
            return new LinkedHashMap<>(entries);
        }
    }

    void load(Map<String, Object> others) {
        others.forEach((key, value) -> entries.putIfAbsent(key, Json.map(value)));
    }
}
