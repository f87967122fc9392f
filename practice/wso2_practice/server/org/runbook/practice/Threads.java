package org.runbook.practice;

import java.io.IOException;

/** Background work: daemon threads that end quietly when their socket closes or the server stops. */
public final class Threads {
    /** Work that may be interrupted or lose its connection. */
    public interface Work {
        void run() throws IOException, InterruptedException;
    }

    private Threads() {
    }

    public static void start(String name, Work work) {
        Thread thread = new Thread(() -> {
            try {
                work.run();
            } catch (IOException | InterruptedException ended) {
                Thread.currentThread().interrupt();
            }
        }, name);
        thread.setDaemon(true);
        thread.start();
    }
}
