package org.runbook.practice;

import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;

/** Reading a properties file that need not be there. */
final class Properties {
    private Properties() {
    }

    static java.util.Properties of(Path file) {
        java.util.Properties loaded = new java.util.Properties();
        try (Reader in = Files.newBufferedReader(file)) {
            loaded.load(in);
        } catch (IOException absent) {
            return loaded;
        }
        return loaded;
    }
}
