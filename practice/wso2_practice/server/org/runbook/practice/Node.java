package org.runbook.practice;

/** The parts of a running server that the web surfaces use. */
record Node(Settings settings, Keys keys, DataSources sources, Users users, Registry registry, Cluster cluster) {
}
