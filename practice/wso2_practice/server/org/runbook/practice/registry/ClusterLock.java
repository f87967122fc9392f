package org.runbook.practice.registry;

import java.sql.SQLException;
import java.sql.Timestamp;
import java.time.Instant;
import java.util.List;
import org.runbook.practice.db.Sql;

/**
 * The row INITIALIZE of REG_CLUSTER_LOCK: one node initialises a registry, the others wait, silently and for ever. A
 * node that dies in between leaves it LOCKED (facts 2.4).
 */
final class ClusterLock {
    private static final long POLL_MILLIS = 5000;
    private final Sql sql;

    ClusterLock(Sql sql) {
        this.sql = sql;
    }

    void acquire() throws SQLException {
        while (!tryLock()) {
            try {
                Thread.sleep(POLL_MILLIS);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                throw new SQLException("interrupted while waiting for the cluster lock", e);
            }
        }
    }

    private boolean tryLock() throws SQLException {
        List<String> status = sql.strings(
                "SELECT REG_LOCK_STATUS FROM REG_CLUSTER_LOCK WHERE REG_LOCK_NAME = 'INITIALIZE'");
        if (!status.isEmpty()) {
            return sql.update("UPDATE REG_CLUSTER_LOCK SET REG_LOCK_STATUS = 'LOCKED', REG_LOCKED_TIME = ?"
                    + " WHERE REG_LOCK_NAME = 'INITIALIZE' AND REG_LOCK_STATUS = 'UNLOCKED'", now()) == 1;
        }
        try {
            sql.update("INSERT INTO REG_CLUSTER_LOCK (REG_LOCK_NAME, REG_LOCK_STATUS, REG_LOCKED_TIME, REG_TENANT_ID)"
                    + " VALUES ('INITIALIZE', 'LOCKED', ?, ?)", now(), RegistryStore.TENANT);
            return true;
        } catch (SQLException e) {
            if (sql.exists("SELECT 1 FROM REG_CLUSTER_LOCK WHERE REG_LOCK_NAME = 'INITIALIZE'")) {
                return false; // another node inserted the row first
            }
            throw e;
        }
    }

    void release() throws SQLException {
        sql.update("UPDATE REG_CLUSTER_LOCK SET REG_LOCK_STATUS = 'UNLOCKED' WHERE REG_LOCK_NAME = 'INITIALIZE'");
    }

    private static Timestamp now() {
        return Timestamp.from(Instant.now());
    }
}
