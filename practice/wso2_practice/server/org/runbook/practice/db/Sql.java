package org.runbook.practice.db;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLIntegrityConstraintViolationException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import javax.sql.DataSource;

/** The three things that one does with a database: ask, change, insert and learn the key. */
public final class Sql {
    /** Turns the current row into a value. */
    public interface Row<T> {
        T read(ResultSet row) throws SQLException;
    }

    /** Work on the database that another node may be doing at the same moment. */
    public interface Work {
        void run() throws SQLException;
    }

    private static final int TRIES = 5;
    private final DataSource source;

    public Sql(DataSource source) {
        this.source = source;
    }

    public Connection connect() throws SQLException {
        return source.getConnection();
    }

    public <T> List<T> query(Row<T> row, String sql, Object... values) throws SQLException {
        try (Connection connection = connect(); PreparedStatement statement = prepare(connection, sql, values);
                ResultSet rows = statement.executeQuery()) {
            List<T> found = new ArrayList<>();
            while (rows.next()) {
                found.add(row.read(rows));
            }
            return found;
        } catch (SQLException e) {
            throw Embedded.inWordsOfH2(e, sql);
        }
    }

    public List<String> strings(String sql, Object... values) throws SQLException {
        return query(row -> row.getString(1), sql, values);
    }

    public boolean exists(String sql, Object... values) throws SQLException {
        return !query(row -> 1, sql, values).isEmpty();
    }

    public int update(String sql, Object... values) throws SQLException {
        try (Connection connection = connect(); PreparedStatement statement = prepare(connection, sql, values)) {
            int count = statement.executeUpdate();
            commit(connection);
            return count;
        }
    }

    /** Inserts a row and returns the number that the database gave it. */
    public long insert(String sql, Object... values) throws SQLException {
        try (Connection connection = connect();
                PreparedStatement statement = connection.prepareStatement(sql, Statement.RETURN_GENERATED_KEYS)) {
            bind(statement, values);
            statement.executeUpdate();
            long key = 0;
            try (ResultSet keys = statement.getGeneratedKeys()) {
                if (keys.next()) {
                    key = keys.getLong(1);
                }
            }
            commit(connection);
            return key;
        }
    }

    /** Runs work of the kind "add what is not there" again when another node added the same row first. */
    public static void insist(Work work) throws SQLException {
        for (int left = TRIES;; left--) {
            try {
                work.run();
                return;
            } catch (SQLIntegrityConstraintViolationException e) {
                if (left == 1) {
                    throw e;
                }
            }
        }
    }

    private static void commit(Connection connection) throws SQLException {
        if (!connection.getAutoCommit()) {
            connection.commit();
        }
    }

    private static PreparedStatement prepare(Connection connection, String sql, Object... values) throws SQLException {
        PreparedStatement statement = connection.prepareStatement(sql);
        bind(statement, values);
        return statement;
    }

    private static void bind(PreparedStatement statement, Object... values) throws SQLException {
        for (int i = 0; i < values.length; i++) {
            if (values[i] instanceof byte[]) {
                statement.setBytes(i + 1, (byte[]) values[i]);
            } else {
                statement.setObject(i + 1, values[i]);
            }
        }
    }
}
