package org.runbook.practice.web;

import org.runbook.practice.cluster.Cluster;
import org.runbook.practice.conf.Keys;
import org.runbook.practice.conf.Settings;
import org.runbook.practice.db.DataSources;
import org.runbook.practice.registry.Registry;
import org.runbook.practice.users.Users;

/** The parts of a running server that the web surfaces use. */
public record Node(Settings settings, Keys keys, DataSources sources, Users users, Registry registry, Cluster cluster) {
}
