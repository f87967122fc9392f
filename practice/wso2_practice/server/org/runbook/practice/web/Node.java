package org.runbook.practice.web;

import org.runbook.practice.cluster.Cluster;
import org.runbook.practice.conf.Keys;
import org.runbook.practice.conf.Settings;
import org.runbook.practice.db.DataSources;
import org.runbook.practice.registry.Registry;
import org.runbook.practice.users.Users;

/** The parts of a running server that the web surfaces use. */
public final class Node {
    private final Settings settings;
    private final Keys keys;
    private final DataSources sources;
    private final Users users;
    private final Registry registry;
    private final Cluster cluster;

    public Node(Settings settings, Keys keys, DataSources sources, Users users, Registry registry, Cluster cluster) {
        this.settings = settings;
        this.keys = keys;
        this.sources = sources;
        this.users = users;
        this.registry = registry;
        this.cluster = cluster;
    }

    public Settings settings() {
        return settings;
    }

    public Keys keys() {
        return keys;
    }

    public DataSources sources() {
        return sources;
    }

    public Users users() {
        return users;
    }

    public Registry registry() {
        return registry;
    }

    public Cluster cluster() {
        return cluster;
    }
}
