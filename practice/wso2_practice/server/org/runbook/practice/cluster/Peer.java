package org.runbook.practice.cluster;

import java.io.BufferedReader;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.function.Consumer;
import org.runbook.practice.conf.Json;

/** The connection to another member of the cluster: one JSON object per line, both ways. */
final class Peer {
    private final Socket socket;
    private final BufferedReader in;
    String id;
    String host;
    int port;
    long born;

    Peer(Socket socket, int silenceMillis) throws IOException {
        this.socket = socket;
        socket.setSoTimeout(silenceMillis);
        socket.setTcpNoDelay(true);
        in = new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8));
    }

    void introduce(Map<String, Object> hello) {
        id = String.valueOf(hello.get("id"));
        host = String.valueOf(hello.get("host"));
        port = ((Number) hello.get("port")).intValue();
        born = ((Number) hello.get("born")).longValue();
    }

    boolean reaches(String address, int at) {
        return host.equals(address) && port == at;
    }

    String age() {
        return age(born, id);
    }

    /** Sorts members by age; the id decides between two of the same millisecond. */
    static String age(long born, String id) {
        return String.format("%019d %s", born, id);
    }

    Map<String, Object> read() throws IOException {
        String line = in.readLine();
        if (line == null) {
            throw new EOFException();
        }
        try {
            return Json.map(Json.parse(line));
        } catch (IllegalArgumentException e) {
            throw new IOException("not a member of a cluster: " + Cluster.address(socket), e);
        }
    }

    /** Hands every message on until the connection ends. */
    void listen(Consumer<Map<String, Object>> receiver) {
        try {
            while (true) {
                receiver.accept(read());
            }
        } catch (IOException ended) {
            close();
        }
    }

    synchronized void write(Map<String, Object> message) throws IOException {
        socket.getOutputStream().write((Json.write(message) + "\n").getBytes(StandardCharsets.UTF_8));
    }

    void tryWrite(Map<String, Object> message) {
        try {
            write(message);
        } catch (IOException ended) {
            close();
        }
    }

    void close() {
        try {
            socket.close();
        } catch (IOException ignored) {
            // it is gone either way
        }
    }
}
